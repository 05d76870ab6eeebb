// A pretended device for tests: its tensors lie in ordinary memory and are computed by the CPU, but torch takes them
// for tensors of another machine. Whoever joins one of them with a tensor of the CPU is told so, as by a GPU.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <optional>

namespace {

constexpr auto kPretended = c10::DeviceType::PrivateUse1;
const c10::Device kDevice(kPretended, 0);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = kPretended;
  c10::DeviceType type() const override { return kPretended; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Memory final : at::Allocator {
  at::DataPtr allocate(size_t bytes) override {
    void* data = std::aligned_alloc(64, (bytes / 64 + 1) * 64);
    TORCH_CHECK(data != nullptr, "out of memory");
    return {data, data, &std::free, kDevice};
  }
  at::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
Memory memory;
REGISTER_ALLOCATOR(kPretended, &memory);

// A generator of the CPU that says it belongs to the pretended device, but for the time of a CPU kernel.
struct Generator : at::CPUGeneratorImpl {
  static void move(c10::GeneratorImpl* generator, c10::Device device) {
    static_cast<Generator*>(generator)->device_ = device;
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  mutable at::Generator usual;
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    if (!usual.defined()) usual = getNewGenerator(0);
    return usual;
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(c10::default_rng_seed_val);
    Generator::move(generator.unsafeGetGeneratorImpl(), kDevice);
    return generator;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isAvailable() const override { return true; }
};

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_generic(size, &memory, keys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(size, stride, &memory, keys, c10::dtype_or_default(dtype));
}

const at::Tensor& resize(const at::Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat>) {
  auto* tensor = self.unsafeGetTensorImpl();
  auto* storage = tensor->unsafe_storage().unsafeGetStorageImpl();
  auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  size_t bytes = (c10::multiply_integers(sizes) + tensor->storage_offset()) * tensor->dtype().itemsize();
  if (storage->nbytes() < bytes) {
    auto larger = memory.allocate(bytes);
    std::memcpy(larger.get(), storage->data(), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(larger));
    storage->set_nbytes(bytes);
  }
  tensor->set_sizes_contiguous(sizes);
  return self;
}

at::Tensor as_strided(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                      std::optional<c10::SymInt> offset) {
  auto start = offset ? std::optional<int64_t>(offset->expect_int()) : std::nullopt;
  return at::native::as_strided_tensorimpl(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), start);
}

at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

at::Tensor reshape_alias(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor alias(const at::Tensor& self) { return at::native::alias(self); }

at::Tensor unfold(const at::Tensor& self, int64_t dim, int64_t size, int64_t step) {
  return at::native::unfold(self, dim, size, step);
}

// The same memory as a tensor of the CPU.
at::Tensor on_cpu(const at::Tensor& x) {
  if (!x.is_privateuseone()) return x;
  auto storage = x.unsafeGetTensorImpl()->unsafe_storage();
  at::DataPtr data(storage.mutable_data(), at::Device(at::kCPU));
  c10::Storage shared(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data));
  auto out = at::empty({0}, at::TensorOptions().dtype(x.dtype()).device(at::kCPU));
  return out.set_(shared, x.storage_offset(), x.sizes(), x.strides());
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& target, bool) {
  on_cpu(target).copy_(on_cpu(self));
  return target;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& target) {
  if (target.sizes() != self.sizes()) target.resize_(self.sizes());
  return copy_from(self, target, false);
}

// Every other operator: compute on the CPU, unless what comes in lies on both devices. A single number may.
void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  bool far = false, near = false;
  c10::GeneratorImpl* generator = nullptr;
  auto look = [&](const at::Tensor& x) {
    if (x.defined()) (x.is_privateuseone() ? far : near) |= x.is_privateuseone() || x.dim() > 0;
  };
  auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  for (const auto& value : arguments) {
    if (value.isTensor()) look(value.toTensor());
    if (value.isTensorList())
      for (const at::Tensor& x : value.toTensorVector()) look(x);
    if (value.isGenerator()) generator = value.toGenerator().unsafeGetGeneratorImpl();
  }
  TORCH_CHECK(!(far && near), "tensors of both devices in ", op.schema().name());
  for (size_t i = stack->size() - arguments.size(); far && i < stack->size(); ++i) {
    auto& value = (*stack)[i];  // a result lies where the first tensor does
    if (value.isTensor() && value.toTensor().defined()) value = value.toTensor().to(kDevice);
  }
  if (generator != nullptr) {
    TORCH_CHECK(generator->device() == kDevice, "a generator of the CPU in ", op.schema().name());
    Generator::move(generator, at::Device(at::kCPU));
  }
  at::native::cpu_fallback(op, stack);
  if (generator != nullptr) Generator::move(generator, kDevice);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("resize_", &resize);
  m.impl("as_strided", &as_strided);
  m.impl("view", &view);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("alias", &alias);
  m.impl("unfold", &unfold);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

const bool registered = (at::RegisterPrivateUse1HooksInterface(new Hooks()), true);

}  // namespace
