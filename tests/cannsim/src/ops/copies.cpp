// What moves and fills: copies, constants, joins, permutations, paddings, and all that goes by an index or a mask.
#include "op.h"

using namespace cannsim;

// ---- copies and constants

OP(aclnnCast, (In a, Type, Out out), { put(out, a); })
OP(aclnnInplaceCopy, (Out a, In b), { a.copy_(b); })
OP(aclnnInplaceFillScalar, (Out a, Scalar value), { a.fill_(value); })
OP(aclnnInplaceFillTensor, (Out a, In value), { a.fill_(value.reshape({})); })
OP(aclnnInplaceZero, (Out a), { a.zero_(); })
OP(aclnnInplaceOne, (Out a), { a.fill_(1); })
OP(aclnnInplaceFillDiagonal, (Out a, Scalar value, bool wrap), { a.fill_diagonal_(value, wrap); })
OP(aclnnArange, (Scalar from, Scalar to, Scalar step, Out out),
   { put(out, at::arange(from, to, step, out.options())); })
OP(aclnnRange, (Scalar from, Scalar to, Scalar step, Out out), { put(out, at::range(from, to, step, out.options())); })
OP(aclnnLinspace, (Scalar from, Scalar to, int64_t steps, Out out),
   { put(out, at::linspace(from, to, steps, out.options())); })
OP(aclnnEye, (int64_t rows, int64_t columns, Out out), { put(out, at::eye(rows, columns, out.options())); })
OP(aclnnOneHot, (In a, int classes, In on, In off, int64_t axis, Out out), {
    auto hot = at::one_hot(a.to(at::kLong), classes).to(at::kBool);  // the new axis is the last one
    put(out, at::where(hot, on, off).movedim(-1, axis));
})

// ---- joins, permutations, paddings

OP(aclnnCat, (List list, int64_t dim, Out out), { put(out, at::cat(list, dim)); })
OP(aclnnStack, (List list, int64_t dim, Out out), { put(out, at::stack(list, dim)); })
OP(aclnnFlip, (In a, Ints dims, Out out), { put(out, at::flip(a, dims)); })
OP(aclnnRoll, (In a, Ints shifts, Ints dims, Out out), { put(out, at::roll(a, shifts, dims)); })
OP(aclnnRepeat, (In a, Ints times, Out out), { put(out, a.repeat(times)); })
OP(aclnnRepeatInterleave, (In a, In times, int64_t, Out out), { put(out, at::repeat_interleave(a, times)); })
OP(aclnnRepeatInterleaveWithDim, (In a, In times, int64_t dim, int64_t, Out out),
   { put(out, at::repeat_interleave(a, times, dim)); })
OP(aclnnRepeatInterleaveInt, (In a, int64_t times, int64_t, Out out), { put(out, at::repeat_interleave(a, times)); })
OP(aclnnRepeatInterleaveIntWithDim, (In a, int64_t times, int64_t dim, int64_t, Out out),
   { put(out, at::repeat_interleave(a, times, dim)); })
OP(aclnnTril, (In a, int64_t diagonal, Out out), { put(out, at::tril(a, diagonal)); })
OP(aclnnTriu, (In a, int64_t diagonal, Out out), { put(out, at::triu(a, diagonal)); })
OP(aclnnInplaceTril, (Out a, int64_t diagonal), { a.tril_(diagonal); })
OP(aclnnInplaceTriu, (Out a, int64_t diagonal), { a.triu_(diagonal); })
OP(aclnnConstantPadNd, (In a, Ints pad, Scalar value, Out out), { put(out, at::constant_pad_nd(a, pad, value)); })
OP(aclnnReflectionPad2d, (In a, Ints pad, Out out), { put(out, at::reflection_pad2d(a, pad)); })
OP(aclnnReflectionPad2dBackward, (In grad, In a, Ints pad, Out out),
   { put(out, at::reflection_pad2d_backward(grad, a, pad)); })
OP(aclnnReplicationPad2d, (In a, Ints pad, Out out), { put(out, at::replication_pad2d(a, pad)); })
OP(aclnnReplicationPad2dBackward, (In grad, In a, Ints pad, Out out),
   { put(out, at::replication_pad2d_backward(grad, a, pad)); })

// ---- by an index

OP(aclnnIndexSelect, (In a, int64_t dim, In index, Out out), { put(out, at::index_select(a, dim, index)); })
OP(aclnnGather, (In a, int64_t dim, In index, Out out), { put(out, at::gather(a, dim, index)); })
OP(aclnnEmbedding, (In weight, In index, Out out),
   { put(out, at::index_select(weight, 0, index.flatten()).reshape(out.sizes())); })
OP(aclnnEmbeddingDenseBackward, (In grad, In index, uint64_t rows, uint64_t padding, bool by_frequency, Out out),
   { put(out, at::embedding_dense_backward(wide(grad), index, rows, int64_t(padding), by_frequency)); })

// A dimension that is not indexed comes as an empty tensor.
static c10::List<c10::optional<Tensor>> optional_indices(const List& indices) {
    c10::List<c10::optional<Tensor>> list;
    for (const Tensor& index : indices) {
        bool whole = !index.defined() || (index.numel() == 0 && index.dim() == 1);
        list.push_back(whole ? c10::nullopt : c10::optional<Tensor>(index));
    }
    return list;
}
OP(aclnnIndex, (In a, List indices, Out out), { put(out, at::index(a, optional_indices(indices))); })
OP(aclnnIndexPutImpl, (Out a, List indices, In values, bool accumulate, bool unsafe),
   { at::_index_put_impl_(a, optional_indices(indices), values, accumulate, unsafe); })
OP(aclnnIndexAdd, (In a, int64_t dim, In index, In source, Scalar alpha, Out out),
   { put(out, at::index_add(a, dim, index, source, alpha)); })
OP(aclnnIndexCopy, (In a, int64_t dim, In index, In source, Out out),
   { put(out, at::index_copy(a, dim, index, source)); })
OP(aclnnInplaceIndexCopy, (Out a, int64_t dim, In index, In source), { a.index_copy_(dim, index, source); })
OP(aclnnIndexFill, (In a, int64_t dim, In index, Scalar value, Out out),
   { put(out, at::index_fill(a, dim, index, value)); })
OP(aclnnInplaceIndexFill, (Out a, int64_t dim, In index, Scalar value), { a.index_fill_(dim, index, value); })

// torch_npu leaves scatter's other ways (1: add, 2: multiply) to the CPU.
static void check_replaces(int64_t how) { TORCH_CHECK(how == 0, "scatter with reduction ", how, " is not simulated"); }
OP(aclnnScatter, (In a, int64_t dim, In index, In source, int64_t how, Out out), {
    check_replaces(how);
    put(out, at::scatter(a, dim, index, source));
})
OP(aclnnScatterValue, (In a, int64_t dim, In index, Scalar value, int64_t how, Out out), {
    check_replaces(how);
    put(out, at::scatter(a, dim, index, value));
})
OP(aclnnInplaceScatter, (Out a, int64_t dim, In index, In source, int64_t how), {
    check_replaces(how);
    a.scatter_(dim, index, source);
})
OP(aclnnInplaceScatterValue, (Out a, int64_t dim, In index, Scalar value, int64_t how), {
    check_replaces(how);
    a.scatter_(dim, index, value);
})
OP(aclnnScatterAdd, (In a, int64_t dim, In index, In source, Out out),
   { put(out, at::scatter_add(a, dim, index, source)); })

// ---- by a mask

OP(aclnnSWhere, (In condition, In a, In b, Out out), { put(out, at::where(condition.to(at::kBool), a, b)); })
OP(aclnnInplaceMaskedFillScalar, (Out a, In mask, Scalar value), { a.masked_fill_(mask, value); })
OP(aclnnInplaceMaskedFillTensor, (Out a, In mask, In value), { a.masked_fill_(mask, value.reshape({})); })
OP(aclnnInplaceMaskedScatter, (Out a, In mask, In source), { a.masked_scatter_(mask, source); })
OP(aclnnMaskedSelect, (In a, In mask, Sized out), { put_found(out, at::masked_select(a, mask)); })
OP(aclnnNonzero, (In a, Sized out), { put_found(out, at::nonzero(a)); })
OP(aclnnNonzeroV2, (In a, Sized out), { put_found(out, at::nonzero(a).t().contiguous()); })  // one row per dimension
OP(aclnnUnique2, (In a, bool sorted, bool inverse, bool counts, Sized values, Out inverses, Sized numbers), {
    auto found = at::_unique2(a, sorted, inverse, counts);
    put_found(values, get<0>(found));
    if (inverse) put(inverses, get<1>(found));
    if (counts) put_found(numbers, get<2>(found));
})
