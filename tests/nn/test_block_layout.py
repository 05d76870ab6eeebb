"""The layouts against dense sums over what each node may read, with n real and n noisy rows written out."""

from __future__ import annotations

import pytest
import torch

from graphinv.nn.block_context import BlockContext
from graphinv.nn.block_layout import CleanLayout, ParallelLayout, StepLayout, WholeLayout
from graphinv.testing import assert_close

D, H = 3, 2
BLOCKS = [[0, 0, 1, 2, 2], [0, 1, 2, 3], [0, 0, 0], [0]]
FAR = 9  # above all blocks


def padded(blocks=BLOCKS, size=5):
    block = torch.tensor([b + [FAR] * (size - len(b)) for b in blocks])
    return block, block < FAR


def values(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reads(block, mask):
    """Return [B, 2M, 2M]: row i reads row k, real rows first."""
    both, noisy = torch.cat([block, block], 1), torch.arange(2 * block.size(1)) >= block.size(1)
    same = (both[:, :, None] == both[:, None]) & (noisy[:, None] == noisy)
    past = (both[:, :, None] > both[:, None]) & ~noisy
    valid = torch.cat([mask, mask], 1)
    return (same | past) & valid[:, :, None] & valid[:, None]


def spread(block, pairs):
    """Return [B, 2M, 2M, D] of ``pairs`` [2, B, M, M, D], zero where nobody reads."""
    size = block.size(1)
    out = pairs.new_zeros(block.size(0), 2 * size, 2 * size, pairs.size(-1))
    out[:, :size, :size] = pairs[0]
    later, same = block[:, :, None] > block[:, None], block[:, :, None] == block[:, None]
    for where, row, column in ((later, size, 0), (same, size, size), (later.transpose(1, 2), 0, size)):
        out[:, row : row + size, column : column + size] += pairs[1] * where.unsqueeze(-1)
    return out


def gathered(block, dense):
    """Return [2, B, M, M, D], the inverse of ``spread``."""
    size = block.size(1)
    real, column, row, own = (
        dense[:, a : a + size, b : b + size] for a, b in ((0, 0), (0, size), (size, 0), (size, size))
    )
    later, same = (
        (block[:, :, None] > block[:, None]).unsqueeze(-1),
        (block[:, :, None] == block[:, None]).unsqueeze(-1),
    )
    return torch.stack([real, torch.where(later, row, torch.where(same, own, column))])


def on_pairs(mask, pairs):
    return pairs * (mask[:, :, None] & mask[:, None]).unsqueeze(-1)


def test_the_parallel_layout_holds_each_of_the_two_n_squared_pairs_that_are_read_once():
    block, mask = padded()
    read = reads(block, mask)
    used = (read | read.transpose(1, 2)).sum((1, 2))
    assert used.tolist() == [2 * len(b) ** 2 for b in BLOCKS]
    pairs = values(2, 4, 5, 5, D)
    assert torch.equal(gathered(block, spread(block, pairs)), pairs)
    kept = spread(block, torch.ones_like(pairs))[..., 0] * torch.cat([mask, mask], 1)[:, :, None]
    assert torch.equal((kept * torch.cat([mask, mask], 1)[:, None]).bool(), read | read.transpose(1, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_products_sum_over_what_the_later_end_reads(dtype):
    block, mask = padded()
    left, right = values(2, 4, 5, 5, D, dtype=dtype), values(2, 4, 5, 5, D, seed=1, dtype=dtype)
    a, b = spread(block, left), spread(block, right)
    m = reads(block, mask)
    either = (m[:, :, :, None] | m.transpose(1, 2)[:, None]).to(dtype)  # [B, i, l, j]: i or j reads l
    dense = torch.einsum("bilj,bild,bljd->bijd", either, a, b)
    expected = gathered(block, dense)
    out = ParallelLayout(block, mask).product(0, left, right)
    assert_close(on_pairs(mask, out), on_pairs(mask, expected), "products")
    clean = CleanLayout(block, mask).product(0, left[0], right[0])
    assert_close(on_pairs(mask, clean), on_pairs(mask, expected[0]), "products of clean blocks")


def test_attention_is_a_softmax_over_what_a_node_reads():
    block, mask = padded()
    logits, pairs = values(2, 4, 5, 5, H), values(2, 4, 5, 5, D, seed=1)
    nodes = values(2, 4, 5, H * 2, seed=2)
    summed, read = ParallelLayout(block, mask).attend(0, logits, pairs, nodes)
    m = reads(block, mask).unsqueeze(-1)
    weight = spread(block, logits).masked_fill(~m, -torch.inf).softmax(2).nan_to_num()
    wide = torch.cat([nodes[0], nodes[1]], 1).unflatten(-1, (H, 2))
    expected = (
        torch.einsum("bikh,bkhv->bihv", weight, wide),
        torch.einsum("bikh,bikd->bihd", weight, spread(block, pairs)),
    )
    for half, valid in ((slice(0, 5), mask), (slice(5, 10), mask)):
        k = half.start // 5
        assert_close(read[k][valid], expected[0][:, half][valid], "values")
        assert_close(summed[k][valid], expected[1][:, half][valid], "pairs")
    summed, read = CleanLayout(block, mask).attend(0, logits[0], pairs[0], nodes[0])
    assert_close(read[mask], expected[0][:, :5][mask], "values of clean blocks")
    assert_close(summed[mask], expected[1][:, :5][mask], "pairs of clean blocks")


def test_sums_of_both_ends_and_means_over_what_is_read_are_those_of_the_dense_layout():
    block, mask = padded()
    row, column, pairs = values(2, 4, 5, D), values(2, 4, 5, D, seed=1), values(2, 4, 5, 5, D, seed=2)
    layout = ParallelLayout(block, mask)
    dense = torch.cat([row[0], row[1]], 1).unsqueeze(2) + torch.cat([column[0], column[1]], 1).unsqueeze(1)
    expected = gathered(block, dense)
    assert_close(on_pairs(mask, layout.pair_sum(0, row, column)), on_pairs(mask, expected), "sums")
    assert torch.equal(layout.noisy_sum(row, column), layout.pair_sum(0, row, column)[1])
    read, wide = reads(block, mask).unsqueeze(-1), spread(block, pairs)
    mean = ((wide + wide.transpose(1, 2)) * read).sum(2) / (2 * read.sum(2)).clamp(min=1)
    own = wide.diagonal(dim1=1, dim2=2).transpose(1, 2)
    both = torch.cat([own, mean], -1).unflatten(1, (2, 5)).movedim(1, 0)
    assert_close(layout.node_summary(pairs)[:, mask], both[:, mask], "summary")
    assert_close(CleanLayout(block, mask).node_summary(pairs[0])[mask], both[0][mask], "summary of clean blocks")
    assert torch.equal(layout.transpose(layout.transpose(pairs)), pairs)


def test_nothing_reads_the_padding():
    block, mask = padded()
    layout = ParallelLayout(block, mask)
    ok = (mask[:, :, None] & mask[:, None]).unsqueeze(-1)
    left, right, logits = (values(2, 4, 5, 5, n, seed=n) for n in (D, 4, H))
    right = right[..., :D]
    nodes = values(2, 4, 5, 2 * H, seed=7)
    one = [layout.product(0, left, right), *layout.attend(0, logits, left, nodes), layout.node_summary(left)]
    left, right, logits = (torch.where(ok, v, 1e6) for v in (left, right, logits))
    nodes = torch.where(mask.unsqueeze(-1), nodes, 1e6)
    two = [layout.product(0, left, right), *layout.attend(0, logits, left, nodes), layout.node_summary(left)]
    assert torch.equal(on_pairs(mask, one[0]), on_pairs(mask, two[0]))
    for a, b in zip(one[1:], two[1:], strict=True):
        assert torch.equal(a[:, mask], b[:, mask])


def step_layout(old, new, keep=False):
    """Return the layout of a new block beside ``old`` finished nodes per graph, kept factors at random."""
    mask = torch.arange(max(old)) < torch.tensor(old).unsqueeze(1)
    shape = (2, len(old), max(old))
    context = BlockContext(
        mask, torch.zeros_like(mask, dtype=torch.long), values(len(old), 4),
        *(values(*shape, n, seed=n) for n in (D, D, 4)),
        *(values(2, len(old), D, max(old), max(old), seed=s) for s in (4, 5)),
        *(values(len(old), max(old), 2 * D, seed=s) for s in (6, 7)),
    )  # fmt: skip
    context = BlockContext(**{**vars(context), "left": context.left * mask[:, None, None]})
    return StepLayout(context, torch.arange(max(new)) < torch.tensor(new).unsqueeze(1), keep)


def test_rows_and_columns_of_a_new_block_are_taken_apart_and_joined_and_transposed():
    layout = step_layout([3, 1], [2, 2])
    pairs = values(2, 2 * 5 + 3 * 2, D)
    rows, columns = layout.rows(pairs), layout.columns(pairs)
    assert rows.shape == (2, 2, 5, D) and columns.shape == (2, 3, 2, D)
    assert torch.equal(layout.join(rows, columns), pairs)
    back = layout.transpose(pairs)
    assert torch.equal(layout.transpose(back), pairs)
    assert torch.equal(layout.rows(back)[:, :, :3], columns.transpose(1, 2))
    assert torch.equal(layout.rows(back)[:, :, 3:], rows[:, :, 3:].transpose(1, 2))


def test_products_of_a_new_block_are_those_of_the_whole_square():
    layout, k = step_layout([3, 1], [1, 2]), 1
    pairs = [values(2, 2 * 5 + 3 * 2, D, seed=s) for s in (1, 2)]
    square = []
    for side, new in zip(("left", "right"), pairs, strict=True):
        past = getattr(layout.context, side)[k].movedim(1, -1)
        top = torch.cat([past, layout.columns(new)], 2)
        square.append(torch.cat([top, layout.rows(new)], 1))
    left = square[0] * layout.all_mask[:, None, :, None]
    expected = torch.einsum("bild,bljd->bijd", left, square[1])
    out = layout.product(k, *pairs)
    assert_close(layout.rows(out), expected[:, 3:], "rows")
    assert_close(layout.columns(out), expected[:, :3, 3:], "columns")


def test_contexts_are_cut_into_graphs_and_joined_again():
    # three nodes of padding behind the old ones, then the newest block of up to 2
    old, new = [2, 1, 0], [1, 0, 2]
    wide = BlockContext.join([step_layout([5], [1]).context for _ in old])
    parts = wide.graphs(old, new)
    assert [p.mask.size(1) for p in parts] == [3, 1, 2]
    kept = [[0, 1, 3], [0], [3, 4]]
    for g, (part, index) in enumerate(zip(parts, kept, strict=True)):
        assert torch.equal(part.values[:, 0], wide.values[:, g, index])
        assert torch.equal(part.left[:, 0], wide.left[:, g][:, :, index][:, :, :, index])
        assert torch.equal(part.end_row[0], wide.end_row[g, index]) and torch.equal(part.total[0], wide.total[g])
    joined = BlockContext.join(parts)
    assert joined.mask.sum(1).tolist() == [3, 1, 2]
    for g, part in enumerate(parts):
        size = part.mask.size(1)
        assert torch.equal(joined.right[:, g, :, :size, :size], part.right[:, 0])
        assert not joined.left[:, g, :, :, size:].any() and not joined.row[:, g, size:].any()


def test_the_whole_graph_as_one_block_is_the_clean_layout_of_one_block():
    _, mask = padded()
    whole, clean = WholeLayout(mask), CleanLayout((~mask).long() * FAR, mask)
    left, right, logits = values(4, 5, 5, D), values(4, 5, 5, D, seed=1), values(4, 5, 5, H, seed=2)
    pair = mask[:, :, None] & mask[:, None]
    products = [layout.product(0, left, right)[pair] for layout in (whole, clean)]
    assert_close(products[0], products[1], "products")
    nodes = values(4, 5, H * D, seed=3)
    for ours, theirs in zip(*(layout.attend(0, logits, left, nodes) for layout in (whole, clean)), strict=True):
        assert_close(ours[mask], theirs[mask], "attention")
    wild = left.masked_fill(~pair.unsqueeze(-1), 1e9)
    assert_close(whole.product(0, wild, right)[pair], products[0], "products with rubbish in the padding")
