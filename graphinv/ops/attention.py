"""Softmax attention inside segments: the queries of a segment attend to the keys of the same segment.

softmax(q k^T * scale) v, for ragged segments without padding to the longest one and without a map of a whole large
segment. Segments of nearly equal sizes are computed together, tile by tile of their maps; backward makes the tiles
again. To torch.compile it is one operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from graphinv.errors import InputError
from graphinv.ops.pointer import check_ptr

__all__ = ["segment_attention"]

_PART_ELEMENTS = 1 << 22  # of queries, keys and values gathered at once
_CPU_TILE, _ACCELERATOR_TILE = 1 << 18, 1 << 24  # elements of a map: stay in the cache, keep a GPU busy


def _size_classes() -> Tensor:
    bounds = [1]
    while bounds[-1] < 1 << 40:
        bounds.append(max(bounds[-1] + 1, 5 * bounds[-1] // 4))
    return torch.tensor(bounds)


_CLASSES = _size_classes()  # upper bounds: sizes of one class differ by a quarter at most, those up to 8 not at all


def segment_attention(
    query: Tensor, key: Tensor, value: Tensor, query_ptr: Tensor, key_ptr: Tensor, scale: float | None = None
) -> Tensor:
    """Attend from the query rows of each segment to its key rows, in each of H heads: [M, H, E].

    out_i = sum_j softmax_j(scale * q_i . k_j) v_j, over the keys j of the segment of i. A segment without keys gives
    0, one without queries nothing. NaN and infinities stay in their segment. A segment of n queries and m keys takes
    O(n m) time and O(n + m) memory. float16 and bfloat16 are computed in float32, autocast or not.

    The sizes are read back from an accelerator once. Second derivatives and ``torch.func`` work, but keep the maps
    of all segments in memory.

    Args:
        query: [M, H, D] rows, segment after segment, of a floating dtype.
        key: [N, H, D] rows, segment after segment.
        value: [N, H, E] rows of the keys.
        query_ptr: [S+1] int64 offsets of the segments in ``query``.
        key_ptr: [S+1] int64 offsets of the segments in ``key`` and ``value``.
        scale: of the products; 1 / sqrt(D) if not given.

    Returns:
        [M, H, E] in the widest dtype of query, key and value.

    Raises:
        InputError: the shapes do not fit, a dtype is not floating, or the offsets do not divide the rows.

    Example:
        >>> x, value = torch.zeros(3, 1, 2), torch.tensor([1.0, 3.0, 5.0]).view(3, 1, 1)
        >>> ptr = torch.tensor([0, 2, 3])
        >>> segment_attention(x, x, value, ptr, ptr).flatten().tolist()
        [2.0, 2.0, 5.0]
    """
    _check(query, key, value, query_ptr, key_ptr)
    dtype = torch.promote_types(torch.promote_types(query.dtype, key.dtype), value.dtype)
    wide = torch.promote_types(dtype, torch.float32)
    scale = 1 / math.sqrt(max(query.shape[2], 1)) if scale is None else float(scale)
    rows = (query.to(wide), key.to(wide), value.to(wide))
    attend = _plain if _is_transformed() else _attention
    return attend(*rows, query_ptr, key_ptr, scale).to(dtype)


class _Places:
    """Rows of B segments, side by side, as far as the largest of them: [B, L]; surplus places hold a first row."""

    def __init__(self, start: Tensor, count: Tensor, device: torch.device) -> None:
        self.shape = (count.shape[0], int(count.max()))
        position = torch.arange(self.shape[1])
        exists = position < count.unsqueeze(1)
        index = start.unsqueeze(1) + position * exists
        self.index = index.flatten().to(device)
        self.ragged = int(count.min()) < self.shape[1]
        self.exists = exists.to(device)
        self.kept = exists.flatten().nonzero().flatten().to(device)

    def take(self, x: Tensor, fill: bool = True) -> Tensor:
        """Gather [N, H, C] as [B * H, L, C], with 0 at surplus places if ``fill``."""
        rows = torch.unflatten(x.index_select(0, self.index), 0, self.shape)
        if self.ragged and fill:
            rows = rows.masked_fill(~self.exists[:, :, None, None], 0)
        return rows.transpose(1, 2).flatten(0, 1)

    def put(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows that exist, [R], and their values [R, H, C] in ``x`` [B * H, L, C]."""
        heads = x.shape[0] // self.shape[0]
        rows = torch.unflatten(x, 0, (self.shape[0], heads)).transpose(1, 2).flatten(0, 1)
        if not self.ragged:
            return self.index, rows
        return self.index.index_select(0, self.kept), rows.index_select(0, self.kept)

    def bias(self, x: Tensor) -> Tensor | None:
        """Return [B * H, 1, L], -inf at surplus places and 0 elsewhere, for ``x`` [B * H, L, C]."""
        if not self.ragged:
            return None
        bias = torch.zeros(self.shape, dtype=x.dtype, device=self.index.device).masked_fill_(~self.exists, -math.inf)
        return bias.repeat_interleave(x.shape[0] // self.shape[0], 0).unsqueeze(1)


Rows = tuple[Tensor, Tensor, Tensor]  # query, key, value
Part = tuple[_Places, _Places]  # queries and keys of some segments of nearly equal sizes


def _parts(rows: Rows, query_ptr: Tensor, key_ptr: Tensor) -> Iterator[Part]:
    """Yield every segment that has queries and keys once, with others of its size classes."""
    query, key, value = rows
    pointers = torch.stack([query_ptr, key_ptr]).cpu()  # the one read from an accelerator
    check_ptr(pointers[0], query.shape[0])
    check_ptr(pointers[1], key.shape[0])
    queries, keys = pointers.diff()
    members = ((queries > 0) & (keys > 0)).nonzero().flatten()
    if not members.numel():
        return
    by_size = members[torch.sort(queries[members], stable=True).indices]
    by_size = by_size[torch.sort(keys[by_size], stable=True).indices]
    kinds = torch.bucketize(queries, _CLASSES) * len(_CLASSES) + torch.bucketize(keys, _CLASSES)
    kinds, order = torch.sort(kinds[by_size], stable=True)
    width, key_width = query.shape[1:].numel(), key.shape[1:].numel() + value.shape[1:].numel()
    for run in torch.split(by_size[order], torch.unique_consecutive(kinds, return_counts=True)[1].tolist()):
        elements = int(queries[run].max()) * width + int(keys[run].max()) * key_width
        for part in torch.split(run, max(1, _PART_ELEMENTS // max(elements, 1))):
            starts = pointers[:, part]
            yield _Places(starts[0], queries[part], query.device), _Places(starts[1], keys[part], query.device)


def _tiles(map_shape: tuple[int, int, int], device: torch.device) -> Iterator[tuple[slice, list[slice]]]:
    """Cut a map [items, queries, keys] to tiles of few elements: yield items, and the queries to take at once.

    The least tile is of 16 queries: for each one, a row is added to the gradient of every key.
    """
    items, queries, keys = map_shape
    limit = _CPU_TILE if device.type == "cpu" else _ACCELERATOR_TILE
    rows = min(queries, max(16, limit // keys))
    step = max(1, limit // (rows * keys)) if rows == queries else 1
    spans = [slice(begin, begin + rows) for begin in range(0, queries, rows)]
    for first in range(0, items, step):
        yield slice(first, first + step), spans


def _weights(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    score = torch.bmm(q * scale, k.transpose(1, 2))
    return (score if bias is None else score + bias).softmax(-1)


def _composed(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    return torch.bmm(_weights(q, k, bias, scale), v)


def _fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    mask = None if bias is None else bias.unsqueeze(1)
    q, k, v = (t.unsqueeze(1) for t in (q, k, v))  # the kernels for CPUs want four dimensions
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).squeeze(1)


def _assembled(attend: Callable[..., Tensor], rows: Rows, query_ptr: Tensor, key_ptr: Tensor, scale: float) -> Tensor:
    """Put the results of ``attend`` on all tiles together, [M, H, E]."""
    query, key, value = rows
    places, results = [], []
    for queries, keys in _parts(rows, query_ptr, key_ptr):
        # A surplus query is a copy of a real one: of zeros, the product with an infinite key would be NaN.
        q, k, v = queries.take(query, fill=False), keys.take(key), keys.take(value)
        bias = keys.bias(k)
        done = []
        for items, spans in _tiles((*q.shape[:2], k.shape[1]), q.device):
            own = None if bias is None else bias[items]
            done.append(torch.cat([attend(q[items, span], k[items], v[items], own, scale) for span in spans], 1))
        place, result = queries.put(torch.cat(done))
        places.append(place)
        results.append(result)
    shape = (*query.shape[:2], value.shape[2])
    if not results:  # zeros with slopes, which are 0
        return query.new_zeros(shape) + sum(t[:0].sum() for t in (query, key, value))
    joined = torch.cat(results)
    return joined.new_zeros(shape).index_copy(0, torch.cat(places), joined)


def _plain(query: Tensor, key: Tensor, value: Tensor, query_ptr: Tensor, key_ptr: Tensor, scale: float) -> Tensor:
    """Attend in plain autograd, for second derivatives and ``torch.func``."""
    with torch.autocast(query.device.type, enabled=False):
        return _assembled(_composed, (query, key, value), query_ptr, key_ptr, scale)


_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor query_ptr, Tensor key_ptr, float scale"


@torch.library.custom_op("graphinv::segment_attention", mutates_args=(), schema=f"({_INPUTS}) -> Tensor")
def _attention(query: Tensor, key: Tensor, value: Tensor, query_ptr: Tensor, key_ptr: Tensor, scale: float) -> Tensor:
    with torch.autocast(query.device.type, enabled=False):
        return _assembled(_fused, (query, key, value), query_ptr, key_ptr, scale)


@torch.library.custom_op(
    "graphinv::segment_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor out, {_INPUTS}) -> (Tensor, Tensor, Tensor)",
)
def _slopes(grad: Tensor, out: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Rows:
    # By hand: autograd does not record inside of an operation.
    query_ptr, key_ptr, scale = rest
    totals = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (query, key, value)]
    with torch.autocast(query.device.type, enabled=False):
        shift = -(grad * out).sum(2, keepdim=True)
        for queries, keys in _parts((query, key, value), query_ptr, key_ptr):
            q, k, v, g = queries.take(query, fill=False), keys.take(key), keys.take(value), queries.take(grad)
            found = _part_slopes(q, k, v, g, queries.take(shift), keys.bias(k), scale)
            for total, rows, slope in zip(totals, (queries, keys, keys), found, strict=True):
                total.index_copy_(0, *rows.put(slope))
    return totals[0], totals[1], totals[2]


def _part_slopes(q: Tensor, k: Tensor, v: Tensor, g: Tensor, shift: Tensor, bias: Tensor | None, scale: float) -> Rows:
    """Return the gradients of q [B, L, D], k [B, K, D] and v [B, K, E], map after map.

    ``g`` [B, L, E] is the one of the result o, and ``shift`` [B, L, 1] is -g . o.
    """
    of_q, of_k, of_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for items, spans in _tiles((*q.shape[:2], k.shape[1]), q.device):
        own = None if bias is None else bias[items]
        for rows in spans:
            weight = _weights(q[items, rows], k[items], own, scale)
            of_v[items].baddbmm_(weight.transpose(1, 2), g[items, rows])
            slope = torch.baddbmm(shift[items, rows], g[items, rows], v[items].transpose(1, 2)).mul_(weight)
            of_q[items, rows] = torch.bmm(slope, k[items])
            of_k[items].baddbmm_(slope.transpose(1, 2), q[items, rows])
    return of_q.mul_(scale), of_k.mul_(scale), of_v


@_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
    return query.new_empty(*query.shape[:2], value.shape[2])


@_slopes.register_fake
def _(grad: Tensor, out: Tensor, *inputs: Any) -> Rows:
    query, key, value = (t.new_empty(t.shape) for t in inputs[:3])
    return query, key, value


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(output, *tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    result, query, key, value, query_ptr, key_ptr = ctx.saved_tensors
    # create_graph=True, where the gradient itself will be differentiated, or a vmapped gradient.
    if torch.is_grad_enabled() or _is_transformed():
        with torch.enable_grad():
            rows = [t.view_as(t) for t in (query, key, value)]  # what leads from one to another is no path
            out = _plain(rows[0], rows[1], rows[2], query_ptr, key_ptr, ctx.scale)
        wanted = [t for t in rows if t.requires_grad]
        found = iter(torch.autograd.grad(out, wanted, grad, create_graph=torch.is_grad_enabled()))
        return (*(next(found) if t.requires_grad else None for t in rows), None, None, None)
    return (*_slopes(grad, result, query, key, value, query_ptr, key_ptr, ctx.scale), None, None, None)


_attention.register_autograd(_differentiate, setup_context=_remember)


def _is_transformed() -> bool:
    return not torch.compiler.is_compiling() and bool(torch._C._are_functorch_transforms_active())


def _check(query: Tensor, key: Tensor, value: Tensor, query_ptr: Tensor, key_ptr: Tensor) -> None:
    shapes = [list(t.shape) for t in (query, key, value)]
    if any(len(shape) != 3 or shape[1] == 0 for shape in shapes):
        raise InputError(f"query, key and value must be [rows, heads, channels] with a head, got shapes {shapes}")
    if key.shape[:2] != value.shape[:2] or query.shape[1:] != key.shape[1:]:
        raise InputError(f"need query [M, H, D], key [N, H, D] and value [N, H, E] with equal N, H, D, got {shapes}")
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if not tensor.is_floating_point():
            raise InputError(f"{name} must be of a floating dtype, got {tensor.dtype}; convert it with {name}.float()")
    for name, ptr in (("query_ptr", query_ptr), ("key_ptr", key_ptr)):
        if ptr.dim() != 1 or ptr.dtype != torch.int64 or ptr.shape[0] == 0:
            raise InputError(f"{name} must be offsets of torch.int64, got shape {list(ptr.shape)} of {ptr.dtype}")
    if query_ptr.shape != key_ptr.shape:
        raise InputError(
            f"query_ptr and key_ptr must be of the same segments, got {len(query_ptr) - 1} and {len(key_ptr) - 1}"
        )
    if len({t.device for t in (query, key, value, query_ptr, key_ptr)}) > 1:
        raise InputError("query, key, value and both ptr must be on one device; move them with .to(device)")
