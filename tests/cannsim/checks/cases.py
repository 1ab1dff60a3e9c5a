"""The cases of operators.py: which of CANN's operators a call launches, and on what.

A row is `case('aclnnNames that it launches', function, inputs.., options)`. The function gets the inputs as tensors of the CPU
and again as tensors of the NPU, and has to give the same. Sizes of 3 are made 0 for the run with empty tensors.
"""

import dataclasses
import typing

import torch
import torch_npu
from torch.nn import functional

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
HALVES = (torch.float16, torch.bfloat16)
SINGLE = (torch.float32,)
NO_BF16 = (torch.float32, torch.float16)
INTEGERS = (torch.int32, torch.int64)
NUMBERS = FLOATS + INTEGERS


@dataclasses.dataclass
class Input:
    """A tensor to be made; of the case's type unless it has one of its own."""

    size: tuple
    make: typing.Callable  # size, generator -> float32
    dtype: typing.Any = None
    still: bool = False  # no gradient for it


def some(*size, dtype=None):
    """Numbers around 0; no ties, as the gradient of a maximum is not the same everywhere"""
    return Input(size, lambda size, random: torch.randn(size, generator=random) * 2, dtype)


def positive(*size, dtype=None):
    return Input(size, lambda size, random: torch.rand(size, generator=random) * 3 + 0.25, dtype)


def fraction(*size, dtype=None):
    return Input(size, lambda size, random: torch.rand(size, generator=random) * 0.9 + 0.05, dtype)


def count(below, *size, dtype=torch.int64):
    """Indices"""
    return Input(size, lambda size, random: torch.randint(below, size, generator=random).float(), dtype)


def order(many, dtype=torch.int64):
    """Indices, each once"""
    return Input((many,), lambda size, random: torch.randperm(many, generator=random).float(), dtype)


def still(given):
    return dataclasses.replace(given, still=True)


def mask(*size):
    return Input(size, lambda size, random: (torch.rand(size, generator=random) > 0.5).float(), torch.bool)


@dataclasses.dataclass
class Case:
    names: list
    function: typing.Callable
    inputs: tuple
    dtypes: tuple = FLOATS
    grad: bool = False  # gradients of the inputs that are of the case's type, too
    empty: bool = True  # also with sizes of 0 for those of 3
    strided: bool = True  # also with views that have gaps
    slack: float = 1.0  # times the usual tolerance
    single: tuple = ()  # names that only its float32 run launches


def case(names, function, *inputs, **options):
    return Case(names.split(), function, inputs, **options)


def both(name, function, *inputs, backward='', **options):
    """An operator and that of its gradient"""
    return case(f'{name} {backward}', function, *inputs, grad=True, **options)


a34, b34, p34 = some(3, 4), some(3, 4), positive(3, 4)
N = dict(dtypes=NUMBERS)
f32 = dict(dtype=torch.float32)
WHOLE = dict(dtypes=INTEGERS)
LOGIC = dict(dtypes=(torch.bool, torch.uint8))

ARITHMETIC = [
    case('aclnnAdd', torch.add, a34, some(4), **N),
    case('aclnnAdd', lambda x, y: torch.add(x, y, alpha=3), a34, b34, **N),
    case('aclnnAdd', torch.add, a34, some(3, 4, dtype=torch.float32)),  # mixed types
    both('aclnnAdd', torch.add, a34, some(1, 4)),
    case('aclnnAdds', lambda x: torch.add(x, 2, alpha=3), a34, **N),
    case('aclnnAddV3', lambda x: torch.add(torch.tensor(2, dtype=x.dtype), x, alpha=3), a34, **N),
    case('aclnnInplaceAdd', lambda x, y: x.add_(y, alpha=2), a34, some(4), **N),
    case('aclnnInplaceAdds', lambda x: x.add_(3, alpha=2), a34, **N),
    case('aclnnSub', lambda x, y: torch.sub(x, y, alpha=2), a34, some(3, 1), **N),
    case('aclnnSubs', lambda x: torch.sub(x, 2, alpha=3), a34, **N),
    case('aclnnInplaceSub', lambda x, y: x.sub_(y, alpha=2), a34, some(4), **N),
    case('aclnnInplaceSubs', lambda x: x.sub_(2, alpha=3), a34, **N),
    case('aclnnRsub', lambda x, y: torch.rsub(x, y, alpha=2), a34, some(4), **N),
    case('aclnnRsubs', lambda x: torch.rsub(x, 1, alpha=2), a34, **N),
    both('aclnnMul', torch.mul, a34, some(4)),
    case('aclnnMul', torch.mul, a34, b34, **N),
    case('aclnnMuls', lambda x: x * 3, a34, **N),
    case('aclnnInplaceMul', lambda x, y: x.mul_(y), a34, some(4), **N),
    case('aclnnInplaceMuls', lambda x: x.mul_(3), a34, **N),
    both('aclnnDiv', torch.div, a34, positive(4), slack=4),
    case('aclnnDivs', lambda x: x / 3, a34, **N),
    case('aclnnInplaceDiv', lambda x, y: x.div_(y), a34, positive(4)),
    case('aclnnInplaceDivs', lambda x: x.div_(3), a34),
    case('aclnnDivMod', lambda x, y: torch.div(x, y, rounding_mode='floor'), a34, positive(4)),
    case('aclnnDivMod', lambda x, y: torch.div(x, y, rounding_mode='trunc'), a34, positive(4)),
    case('aclnnDivMods', lambda x: torch.div(x, 2, rounding_mode='floor'), a34, **N),
    case('aclnnInplaceDivMod', lambda x, y: x.div_(y, rounding_mode='trunc'), a34, positive(4), dtypes=NO_BF16),
    case('aclnnInplaceDivMods', lambda x: x.div_(2, rounding_mode='trunc'), a34, **N),
    case('aclnnFloorDivide', lambda x, y: x // y, a34, positive(4)),
    case('aclnnFloorDivides', lambda x: x // 2, a34, **N),
    case('aclnnInplaceFloorDivide', lambda x, y: x.floor_divide_(y), a34, positive(4)),
    case('aclnnInplaceFloorDivides', lambda x: x.floor_divide_(2), a34, **N),
    case('aclnnFmodTensor', torch.fmod, a34, positive(4), dtypes=SINGLE),
    case('aclnnFmodScalar', lambda x: torch.fmod(x, 2), a34, dtypes=SINGLE + INTEGERS),
    case('aclnnRemainderTensorTensor', torch.remainder, a34, positive(4), dtypes=SINGLE),
    case('aclnnRemainderTensorScalar', lambda x: x % 2, a34, dtypes=SINGLE + INTEGERS),
    case('aclnnRemainderScalarTensor', lambda x: torch.remainder(5, x), p34, dtypes=SINGLE),
    case('aclnnInplaceRemainderTensorTensor', lambda x, y: x.remainder_(y), a34, positive(4), dtypes=SINGLE),
    case('aclnnInplaceRemainderTensorScalar', lambda x: x.remainder_(2), a34, dtypes=SINGLE + INTEGERS),
    case('aclnnPowTensorTensor', torch.pow, p34, some(4), slack=4),
    case('aclnnPowTensorScalar', lambda x: x**3, a34, slack=4),
    both('aclnnPowTensorScalar', lambda x: x**2, a34, slack=4),
    case('aclnnPowScalarTensor', lambda x: 2.0**x, a34, slack=4),
    case('aclnnInplacePowTensorTensor', lambda x, y: x.pow_(y), p34, some(4), slack=4),
    case('aclnnInplacePowTensorScalar', lambda x: x.pow_(2), a34, slack=4),
    case('aclnnMaximum', torch.maximum, a34, some(4), **N),
    case('aclnnMinimum', torch.minimum, a34, some(4), **N),
    case('aclnnAddcmul', lambda x, y, z: torch.addcmul(x, y, z, value=2), a34, b34, some(4)),
    case('aclnnInplaceAddcmul', lambda x, y, z: x.addcmul_(y, z, value=0.5), a34, b34, some(4)),
    case('aclnnAddcdiv', lambda x, y, z: torch.addcdiv(x, y, z, value=2), a34, b34, positive(4), slack=4),
    case('aclnnInplaceAddcdiv', lambda x, y, z: x.addcdiv_(y, z, value=-0.5), a34, b34, positive(4), slack=4),
    case('aclnnLerp', torch.lerp, a34, b34, fraction(4), slack=4),
    case('aclnnLerps', lambda x, y: torch.lerp(x, y, 0.3), a34, b34),
    case('aclnnInplaceLerp', lambda x, y, w: x.lerp_(y, w), a34, b34, fraction(4), slack=4),
    case('aclnnInplaceLerps', lambda x, y: x.lerp_(y, 0.3), a34, b34),
    case('aclnnClamp', lambda x: x.clamp(-1, 1), a34, **N),
    case('aclnnClampMin', lambda x: torch.clamp_min(x, -1), a34, **N),
    case('aclnnClampMax', lambda x: torch.clamp_max(x, 1), a34, **N),
    case('aclnnInplaceClampMax', lambda x: x.clamp_max_(1), a34, **N),
    case('aclnnClampTensor', torch.clamp, a34, some(4), positive(4)),
    case('aclnnClampMinTensor', torch.clamp_min, a34, some(4)),
    case('aclnnClampMaxTensor', torch.clamp_max, a34, some(4)),
    case('aclnnInplaceClampMinTensor', lambda x, y: x.clamp_min_(y), a34, some(4)),
    case('aclnnInplaceClampMaxTensor', lambda x, y: x.clamp_max_(y), a34, some(4)),
    case('aclnnNanToNum', lambda x: torch.nan_to_num(x / 0, 1.0, 2.0, -3.0), a34),
    case('aclnnInplaceNanToNum', lambda x: x.div_(0).nan_to_num_(1.0, 2.0, -3.0), a34),
    both('aclnnErf', torch.erf, a34, dtypes=NO_BF16, slack=4),  # CANN's page has no bfloat16 for it on a 910B
    case('aclnnRoundDecimals', lambda x: torch.round(x, decimals=1), a34, dtypes=SINGLE),
]
ONE_OPERAND = {
    'Neg Abs Sign Floor Ceil Round Trunc Sin Cos Exp Exp2 Expm1 Tanh Sigmoid Relu': a34,
    'Sqrt Rsqrt Reciprocal Log Log1p Log2 Log10': p34,
    'Erfinv': fraction(3, 4),
}
for names, tensor in ONE_OPERAND.items():
    for name in names.split():
        ARITHMETIC.append(case(f'aclnn{name}', getattr(torch, name.lower()), tensor, slack=2))
        ARITHMETIC.append(both(f'aclnn{name}', getattr(torch, name.lower()), tensor, dtypes=SINGLE, slack=2))
for names, tensor in {
    'Floor Ceil Sin Cos Exp Tanh Sigmoid Relu': a34,
    'Sqrt Rsqrt Reciprocal Log': p34,
    'Erfinv': fraction(3, 4),
}.items():
    for name in names.split():
        in_place = getattr(torch.Tensor, f'{name.lower()}_')
        ARITHMETIC.append(case(f'aclnnInplace{name}', in_place, tensor, slack=2))

COMPARE = [
    *(
        case(f'aclnn{name.capitalize()}Tensor', getattr(torch, name), a34, some(4), **N)
        for name in ('eq', 'ne', 'lt', 'le', 'gt', 'ge')
    ),
    *(
        case(f'aclnn{name.capitalize()}Scalar', lambda x, name=name: getattr(torch, name)(x, 1), a34, **N)
        for name in ('eq', 'ne', 'lt', 'le', 'gt', 'ge')
    ),
    case(
        'aclnnEqual', lambda x, y: torch.tensor([torch.equal(x, y), torch.equal(x, x.clone())]), a34, b34, empty=False
    ),
    case('aclnnIsClose', lambda x, y: torch.isclose(x, y, rtol=0.5), a34, b34, dtypes=SINGLE),
    case('aclnnIsFinite', lambda x: torch.isfinite(x / 0), a34),
    case('aclnnIsPosInf', lambda x: torch.isposinf(x / 0), a34),
    case('aclnnIsNegInf', lambda x: torch.isneginf(x / 0), a34),
    case('aclnnLogicalAnd', torch.logical_and, mask(3, 4), mask(4), **LOGIC),
    case('aclnnLogicalOr', torch.logical_or, mask(3, 4), mask(4), **LOGIC),
    case('aclnnLogicalXor', torch.logical_xor, mask(3, 4), mask(4), **LOGIC),
    case('aclnnLogicalNot', torch.logical_not, mask(3, 4), **LOGIC),
    case('aclnnInplaceLogicalAnd', lambda x, y: x.logical_and_(y), mask(3, 4), mask(4), **LOGIC),
    case('aclnnInplaceLogicalOr', lambda x, y: x.logical_or_(y), mask(3, 4), mask(4), **LOGIC),
    case('aclnnInplaceLogicalNot', lambda x: x.logical_not_(), mask(3, 4), **LOGIC),
    case('aclnnBitwiseAndTensor', torch.bitwise_and, count(9, 3, 4, dtype=None), count(9, 4, dtype=None), **WHOLE),
    case('aclnnBitwiseAndScalar', lambda x: x & 5, count(9, 3, 4, dtype=None), **WHOLE),
    case('aclnnBitwiseOrTensor', torch.bitwise_or, count(9, 3, 4, dtype=None), count(9, 4, dtype=None), **WHOLE),
    case('aclnnBitwiseOrScalar', lambda x: x | 5, count(9, 3, 4, dtype=None), **WHOLE),
    case('aclnnBitwiseXorTensor', torch.bitwise_xor, count(9, 3, 4, dtype=None), count(9, 4, dtype=None), **WHOLE),
    case('aclnnBitwiseXorScalar', lambda x: x ^ 5, count(9, 3, 4, dtype=None), **WHOLE),
    case('aclnnBitwiseNot', torch.bitwise_not, count(9, 3, 4, dtype=None), **WHOLE),
    case(
        'aclnnInplaceBitwiseAndTensor',
        lambda x, y: x.bitwise_and_(y),
        count(9, 3, 4, dtype=None),
        count(9, 4, dtype=None),
        **WHOLE,
    ),
    case('aclnnInplaceBitwiseAndScalar', lambda x: x.bitwise_and_(5), count(9, 3, 4, dtype=None), **WHOLE),
]


def mixup(x):
    return x * 0.3 + x.flip(0) * 0.7


def cutmix(x):
    x = x.clone()
    x[:, :, 1:3, 2:5] = x.flip(0)[:, :, 1:3, 2:5]
    return x


COPIES = [
    case('aclnnFlip aclnnMuls', mixup, some(4, 2, 6, 6)),
    case('aclnnFlip aclnnInplaceCopy', cutmix, some(4, 2, 6, 6)),
    case('aclnnInplaceCopy', lambda x, y: x.copy_(y), a34, some(4, dtype=torch.float32)),
    case('aclnnInplaceCopy', lambda x: [x.to(t) for t in (torch.float32, torch.int32, torch.bool)], a34),
    case(
        'aclnnCast', lambda x: torch_npu.npu_dtype_cast(x, torch.float16) if x.is_npu else x.half(), some(3, 4, **f32)
    ),
    case('aclnnInplaceFillScalar', lambda x: x.fill_(3), a34, **N),
    case('aclnnInplaceFillTensor', lambda x, y: x.fill_(y), a34, some()),
    case('aclnnInplaceZero', lambda x: [x.zero_(), torch.zeros_like(x)], a34, **N),
    case('aclnnInplaceOne', lambda x: torch.ones(x.shape, dtype=x.dtype, device=x.device), a34, **N),
    case('aclnnInplaceFillDiagonal', lambda x: x.fill_diagonal_(7), some(5, 4)),
    case('aclnnArange', lambda x: torch.arange(1, 9, 2, dtype=x.dtype, device=x.device), a34, **N),
    case('aclnnRange', lambda x: torch.range(1, 9, 2, dtype=x.dtype, device=x.device), a34, dtypes=SINGLE),
    case('aclnnLinspace', lambda x: torch.linspace(-1, 1, 7, device=x.device), a34, dtypes=SINGLE),
    case('aclnnEye', lambda x: torch.eye(3, 5, dtype=x.dtype, device=x.device), a34),
    case('aclnnOneHot', lambda x: functional.one_hot(x, 6), count(6, 3, 4), dtypes=SINGLE, empty=False),
    both('aclnnCat', lambda x, y: torch.cat([x, y]), a34, some(2, 4)),
    case('aclnnCat', lambda x, y: torch.cat([x, y], -1), a34, b34, **N),
    both('aclnnStack', lambda x, y: torch.stack([x, y], 1), a34, b34),
    case('aclnnFlip', lambda x: x.flip(0, 1), a34, **N),
    case('aclnnRoll', lambda x: [x.roll(1, 0), x.roll((2, 1), (0, 1))], a34, **N),
    case('aclnnRepeat', lambda x: x.repeat(2, 2), a34, **N),
    case('aclnnRepeatInterleaveInt', lambda x: x.repeat_interleave(2), a34),
    case('aclnnRepeatInterleaveIntWithDim', lambda x: x.repeat_interleave(2, dim=1), a34),
    case('aclnnRepeatInterleave', lambda x, n: x.repeat_interleave(n), some(4), count(4, 4)),
    case('aclnnRepeatInterleaveWithDim', lambda x, n: x.repeat_interleave(n, dim=1), a34, count(4, 4)),
    case('aclnnTril', torch.tril, some(3, 4, 4)),
    case('aclnnTriu', lambda x: torch.triu(x, 1), some(3, 4, 4)),
    case('aclnnInplaceTril', lambda x: x.tril_(), some(4, 4)),
    case('aclnnInplaceTriu', lambda x: x.triu_(1), some(4, 4)),
    case('aclnnConstantPadNd', lambda x: functional.pad(x, (1, 2, 0, 1), value=5), a34),
    both(
        'aclnnReflectionPad2d',
        lambda x: functional.pad(x, (1, 2, 0, 1), mode='reflect'),
        some(2, 2, 4, 5),
        backward='aclnnReflectionPad2dBackward',
        dtypes=SINGLE,
    ),
    both(
        'aclnnReplicationPad2d',
        lambda x: functional.pad(x, (1, 2, 0, 1), mode='replicate'),
        some(2, 2, 4, 5),
        backward='aclnnReplicationPad2dBackward',
        dtypes=SINGLE,
    ),
    both('aclnnIndexSelect', lambda x, i: x.index_select(1, i), a34, count(4, 6), dtypes=SINGLE),
    case('aclnnGather', lambda x, i: x.gather(1, i), a34, count(4, 3, 2)),
    both(
        'aclnnEmbedding',
        lambda w, i: functional.embedding(i, w),
        some(7, 4),
        count(7, 2, 3),
        backward='aclnnEmbeddingDenseBackward',
        empty=False,
    ),
    case('aclnnIndex', lambda x, i, j: [x[i], x[:, j], x[i, j]], some(5, 4), count(4, 6), count(4, 6)),
    case('aclnnIndex', lambda x, m: x[m], some(5, 4), mask(5, 4)),
    case('aclnnIndexPutImpl', lambda x, i, v: x.index_put_((i,), v), some(7, 4), order(5), some(5, 4)),
    case(
        'aclnnIndexPutImpl',
        lambda x, i, v: x.index_put_((i,), v, accumulate=True),
        some(7, 4),
        count(7, 5),
        some(5, 4),
        slack=4,
    ),
    case('aclnnIndexAdd', lambda x, i, v: x.index_add(0, i, v, alpha=2), some(7, 4), order(5), some(5, 4)),
    case('aclnnIndexCopy', lambda x, i, v: x.index_copy(0, i, v), some(7, 4), order(5), some(5, 4)),
    case('aclnnInplaceIndexCopy', lambda x, i, v: x.index_copy_(0, i, v), some(7, 4), order(5), some(5, 4)),
    case('aclnnIndexFill', lambda x, i: x.index_fill(0, i, 2), some(7, 4), count(7, 5)),
    case('aclnnInplaceIndexFill', lambda x, i: x.index_fill_(0, i, 2), some(7, 4), count(7, 5)),
    case('aclnnScatter', lambda x, i, v: x.scatter(1, i, v), some(2, 4), count(1, 2, 1), some(2, 1)),
    case('aclnnScatterValue', lambda x, i: x.scatter(1, i, 3), a34, count(4, 3, 2), empty=False),
    case('aclnnInplaceScatter', lambda x, i, v: x.scatter_(1, i, v), some(2, 4), count(1, 2, 1), some(2, 1)),
    case('aclnnInplaceScatterValue', lambda x, i: x.scatter_(1, i, 3), a34, count(4, 3, 2), empty=False),
    case(
        'aclnnScatterAdd', lambda x, i, v: x.scatter_add(1, i, v), a34, count(4, 3, 2), some(3, 2), empty=False, slack=4
    ),
    case('aclnnSWhere', lambda x, y, m: torch.where(m, x, y), a34, some(4), mask(3, 4), **N),
    case('aclnnInplaceMaskedFillScalar', lambda x, m: x.masked_fill(m, 2), a34, mask(3, 4), **N),
    case('aclnnInplaceMaskedFillScalar', lambda x, m: x.masked_fill_(m, float('-inf')), a34, mask(4)),
    case('aclnnInplaceMaskedFillTensor', lambda x, m, v: x.masked_fill_(m, v), a34, mask(4), some()),
    case('aclnnInplaceMaskedScatter', lambda x, m, v: x.masked_scatter_(m, v), some(5, 4), mask(5, 4), some(20)),
    case('aclnnMaskedSelect', lambda x, m: x.masked_select(m), a34, mask(3, 4)),
    case('aclnnNonzero', torch.nonzero, mask(3, 4), dtypes=SINGLE),
    case('aclnnNonzeroV2', lambda x, m: x[m], some(5, 4), mask(5)),
    case(
        'aclnnUnique2', lambda x: torch.unique(x, return_inverse=True, return_counts=True), count(5, 20), dtypes=SINGLE
    ),
]

REDUCTIONS = [
    both('aclnnReduceSum', lambda x: x.sum(), some(3, 4, 5), slack=4),
    case('aclnnReduceSum', lambda x: [x.sum(1), x.sum((0, 2), keepdim=True)], some(3, 4, 5), dtypes=NUMBERS, slack=4),
    case('aclnnReduceSum', lambda x: x.sum(), mask(3, 4), dtypes=SINGLE),
    both('aclnnMean', lambda x: x.mean((1, 2)), some(3, 4, 5), slack=4),
    case('aclnnMean', lambda x: x.mean(), some(5, 4), slack=4),
    case('aclnnProd', lambda x: x.prod(), some(2, 3), dtypes=SINGLE),
    case('aclnnProdDim', lambda x: x.prod(1), a34, dtypes=SINGLE),
    case('aclnnStd', lambda x: x.std(1), some(5, 4), slack=4),
    case('aclnnVarCorrection', lambda x: x.var(1, unbiased=False), some(5, 4), slack=4),
    case('aclnnVarMean', lambda x: torch.var_mean(x, 1), some(5, 4), slack=4),
    case('aclnnStdMeanCorrection', lambda x: torch.std_mean(x, 1), some(5, 4), slack=4),
    case('aclnnLogSumExp', lambda x: torch.logsumexp(x, 1), a34, slack=4),
    case(
        'aclnnLinalgVectorNorm',
        lambda x: [torch.linalg.vector_norm(x), torch.linalg.vector_norm(x, 1, dim=1)],
        some(5, 4),
        slack=4,
    ),
    case('aclnnNorm', lambda x: torch.ops.aten.norm.ScalarOpt_dim(x, 2, [1]), some(5, 4), slack=4, dtypes=SINGLE),
    case('aclnnAll', lambda x: [x.all(), x.all(1)], mask(3, 4), dtypes=SINGLE),
    case('aclnnAny', lambda x: [x.any(), x.any(1, keepdim=True)], mask(3, 4), dtypes=SINGLE),
    case('aclnnAmax', lambda x: x.amax((0, 1)), some(5, 4)),
    case('aclnnAmin', lambda x: x.amin(1, keepdim=True), some(5, 4)),
    case('aclnnMax', lambda x: x.max(), some(5, 4), **N),
    case('aclnnMin', lambda x: x.min(), some(5, 4), **N),
    case('aclnnMaxDim', lambda x: list(x.max(1)), some(5, 4), dtypes=SINGLE),
    case('aclnnMinDim', lambda x: list(x.min(1)), some(5, 4), dtypes=SINGLE),
    case('aclnnAminmax', lambda x: list(torch.aminmax(x, dim=1)), some(5, 4), dtypes=SINGLE),
    case('aclnnArgMax', lambda x: [x.argmax(), x.argmax(1)], some(5, 4), dtypes=SINGLE),
    case('aclnnArgMin', lambda x: [x.argmin(), x.argmin(1)], some(5, 4), dtypes=SINGLE),
    case('aclnnTopk', lambda x: list(x.topk(2, 1)), some(3, 9), dtypes=SINGLE),
    case('aclnnSort', lambda x: [*x.sort(1), x.argsort(1, descending=True)], some(5, 9), dtypes=SINGLE),
    case('aclnnCumsum', lambda x: x.cumsum(1), a34, slack=4),
    case('aclnnCumprod', lambda x: x.cumprod(1), a34, dtypes=SINGLE),
    case('aclnnBincount', lambda x: torch.bincount(x, minlength=7), count(5, 20), dtypes=SINGLE),
    case('aclnnTrace', torch.trace, some(4, 5), dtypes=SINGLE),
]


def conv(x, w, b=None, **options):
    return functional.conv2d(x, w, b, **options)


CONV = dict(grad=True, empty=False, slack=8)
MATRICES = [
    both('aclnnMm', torch.mm, some(3, 4), some(4, 5), slack=8),
    both('aclnnMatmul', lambda x, y: x @ y.t(), some(3, 4), some(5, 4), slack=8),
    case('aclnnMatmul', torch.matmul, some(2, 3, 4), some(4, 5), slack=8),
    both('aclnnBatchMatMul', torch.bmm, some(2, 3, 4), some(2, 4, 5), slack=8),
    case('aclnnMv', torch.mv, some(3, 4), some(4), slack=8),
    case('aclnnDot', torch.dot, some(4), some(4), slack=8),
    both('aclnnAddmm', functional.linear, some(3, 4), some(5, 4), some(5), slack=8),
    case('aclnnAddmm', lambda c, x, y: torch.addmm(c, x, y, beta=2, alpha=3), some(5), some(3, 4), some(4, 5), slack=8),
    case(
        'aclnnInplaceAddmm',
        lambda c, x, y: c.addmm_(x, y, beta=2, alpha=3),
        some(3, 5),
        some(3, 4),
        some(4, 5),
        slack=8,
    ),
    case('aclnnAddmv', lambda c, x, y: torch.addmv(c, x, y, beta=2, alpha=3), some(5), some(5, 4), some(4), slack=8),
    case(
        'aclnnBaddbmm',
        lambda c, x, y: torch.baddbmm(c, x, y, beta=2, alpha=3),
        some(2, 3, 5),
        some(2, 3, 4),
        some(2, 4, 5),
        slack=8,
    ),
    case('aclnnConvolution aclnnConvolutionBackward', conv, some(2, 4, 6, 6), some(8, 4, 3, 3), some(8), **CONV),
    case(
        'aclnnConvolution aclnnConvolutionBackward',
        lambda x, w: conv(x, w, stride=2, padding=1, groups=4),
        some(2, 4, 6, 6),
        some(8, 1, 3, 3),
        **CONV,
    ),
    case(
        'aclnnConvolution aclnnConvolutionBackward',
        lambda x, w: conv(x, w, padding=4, dilation=3, groups=4),
        some(2, 4, 6, 6),
        some(4, 1, 3, 3),
        **CONV,
    ),
    case(
        'aclnnConvolution aclnnConvolutionBackward',
        lambda x, w: functional.conv_transpose2d(x, w, stride=2),
        some(2, 4, 3, 3),
        some(4, 2, 2, 2),
        **CONV,
    ),
]


def batch_norm(training):
    def run(x, w, b, mean, var):
        mean, var = mean.detach().clone(), var.detach().clone()
        y = functional.batch_norm(x, mean, var, w, b, training, 0.2, 1e-3)
        return [y, mean, var]

    return run


NORM = dict(grad=True, empty=False, slack=16)
NORMS = [
    both(
        'aclnnLayerNorm',
        lambda x: functional.layer_norm(x, (8,)),
        some(2, 5, 8),
        backward='aclnnLayerNormBackward',
        empty=False,
        slack=16,
    ),
    both(
        'aclnnGroupNorm',
        lambda x: functional.group_norm(x, 2),
        some(2, 4, 3, 5),
        backward='aclnnGroupNormBackward',
        empty=False,
        slack=16,
    ),
    both(
        'aclnnBatchNorm',
        lambda x: functional.batch_norm(x, None, None, training=True),
        some(4, 5, 3, 2),
        backward='aclnnBatchNormBackward',
        empty=False,
        slack=16,
    ),
    case(
        'aclnnLayerNorm aclnnLayerNormBackward',
        lambda x, w, b: functional.layer_norm(x, (8,), w, b),
        some(2, 5, 8),
        some(8),
        some(8),
        **NORM,
    ),
    case(
        'aclnnLayerNorm',
        lambda x, w, b: functional.layer_norm(x, (5, 8), w, b, 1e-3),
        some(2, 5, 8),
        some(5, 8),
        some(5, 8),
        dtypes=SINGLE,
        empty=False,
        grad=True,
        slack=8,
    ),
    case(
        'aclnnGroupNorm aclnnGroupNormBackward',
        lambda x, w, b: functional.group_norm(x, 2, w, b),
        some(2, 4, 3, 5),
        some(4),
        some(4),
        **NORM,
    ),
    case(
        'aclnnBatchNorm aclnnBatchNormBackward',
        batch_norm(True),
        some(4, 5, 3, 2),
        some(5, **f32),
        some(5, **f32),
        still(some(5, **f32)),
        still(positive(5, **f32)),
        **NORM,
    ),
    case(
        'aclnnBatchNorm aclnnBatchNormBackward',
        batch_norm(False),
        some(4, 5, 3, 2),
        some(5, **f32),
        some(5, **f32),
        still(some(5, **f32)),
        still(positive(5, **f32)),
        **NORM,
    ),
]


def gelu_tanh(x):
    """torch_npu takes aclnnGelu for functional.gelu, whatever `approximate` is; its own function takes the newer one."""
    return torch_npu.npu_gelu(x, approximate='tanh') if x.is_npu else functional.gelu(x, approximate='tanh')


def fast_gelu(x):
    return torch_npu.fast_gelu(x) if x.is_npu else x * torch.sigmoid(1.702 * x)


ACTIVATIONS = [
    both(
        'aclnnNLLLoss',
        lambda x, t: functional.cross_entropy(x, t, label_smoothing=0.1, reduction='none'),
        some(5, 4),
        count(4, 5),
        backward='aclnnNLLLossBackward',
        dtypes=SINGLE,
        strided=False,
    ),
    both(
        'aclnnNLLLoss',
        lambda x, t, w: functional.cross_entropy(x, t, w),
        some(5, 4),
        count(4, 5),
        still(positive(4)),
        backward='aclnnNLLLossBackward',
        dtypes=SINGLE,
        strided=False,
    ),
    both('aclnnFastGelu', fast_gelu, a34, backward='aclnnFastGeluBackward', slack=4),
    both('aclnnGelu', functional.gelu, a34, backward='aclnnGeluBackward', slack=4),
    both('aclnnGeluV2', gelu_tanh, a34, backward='aclnnGeluBackwardV2', slack=4),
    both('aclnnSilu', functional.silu, a34, backward='aclnnSiluBackward', slack=4),
    both('aclnnRelu', functional.relu, a34, backward='aclnnThresholdBackward'),
    both('aclnnSigmoid', torch.sigmoid, a34, backward='aclnnSigmoidBackward', slack=4),
    both('aclnnTanh', torch.tanh, a34, backward='aclnnTanhBackward', slack=4),
    both('aclnnHardswish', functional.hardswish, a34, backward='aclnnHardswishBackwardV2', slack=4),
    case('aclnnInplaceHardswish', lambda x: functional.hardswish(x, inplace=True), a34, slack=4),
    both('aclnnHardsigmoid', functional.hardsigmoid, a34, backward='aclnnHardsigmoidBackward', slack=4),
    case('aclnnInplaceHardsigmoid', lambda x: functional.hardsigmoid(x, inplace=True), a34, slack=4),
    both('aclnnHardtanh', functional.relu6, a34, backward='aclnnHardtanhBackward'),
    case('aclnnInplaceHardtanh', lambda x: functional.relu6(x, inplace=True), a34),
    both('aclnnLeakyRelu', lambda x: functional.leaky_relu(x, 0.1), a34, backward='aclnnLeakyReluBackward'),
    case('aclnnInplaceLeakyRelu', lambda x: functional.leaky_relu_(x, 0.1), a34),
    both('aclnnElu', functional.elu, a34, backward='aclnnEluBackward', slack=4),
    both('aclnnSoftplus', functional.softplus, a34, backward='aclnnSoftplusBackward', slack=4),
    both('aclnnMish', functional.mish, a34, backward='aclnnMishBackward', slack=4),
    both('aclnnGlu', functional.glu, a34, backward='aclnnGluBackward', slack=4),
    both('aclnnLogSigmoidForward', functional.logsigmoid, a34, backward='aclnnLogSigmoidBackward', slack=4),
    both('aclnnSoftmax', lambda x: torch.softmax(x, -1), a34, backward='aclnnSoftmaxBackward', slack=4),
    both('aclnnLogSoftmax', lambda x: torch.log_softmax(x, 1), a34, backward='aclnnLogSoftmaxBackward', slack=8),
    both(
        'aclnnNLLLoss',
        functional.cross_entropy,
        some(5, 4),
        count(4, 5),
        backward='aclnnNLLLossBackward',
        dtypes=SINGLE,
        strided=False,
    ),
    case(
        'aclnnNLLLoss',
        lambda x, t: functional.nll_loss(x, t, reduction='sum', ignore_index=1),
        some(5, 4),
        count(4, 5),
        dtypes=SINGLE,
        grad=True,
        strided=False,
    ),
    both('aclnnMseLoss', functional.mse_loss, a34, some(3, 4), backward='aclnnMseLossBackward', empty=False, slack=4),
    both('aclnnL1Loss', functional.l1_loss, a34, some(3, 4), backward='aclnnL1LossBackward', empty=False, slack=4),
    both(
        'aclnnSmoothL1Loss',
        functional.smooth_l1_loss,
        a34,
        some(3, 4),
        backward='aclnnSmoothL1LossBackward',
        empty=False,
        slack=4,
        dtypes=SINGLE,
    ),
    both(
        'aclnnBinaryCrossEntropyWithLogits',
        functional.binary_cross_entropy_with_logits,
        some(5, 4),
        still(fraction(5, 4)),
        backward='aclnnBinaryCrossEntropyWithLogitsBackward',
        slack=4,
        dtypes=SINGLE,
    ),
    both(
        'aclnnKlDiv',
        lambda x, y: functional.kl_div(x, y, reduction='batchmean'),
        some(5, 4),
        still(fraction(5, 4)),
        backward='aclnnKlDivBackward',
        slack=4,
        dtypes=SINGLE,
    ),
]

WINDOWS = [
    both(
        'aclnnAdaptiveAvgPool2d',
        lambda x: functional.adaptive_avg_pool2d(x, (2, 3)),
        some(2, 2, 4, 6),
        backward='aclnnAdaptiveAvgPool2dBackward',
        slack=4,
    ),
    both(
        'aclnnAvgPool2d',
        lambda x: functional.avg_pool2d(x, 3, 2, 1),
        some(2, 2, 6, 6),
        backward='aclnnAvgPool2dBackward',
        slack=4,
    ),
    both(
        'aclnnUpsampleBilinear2d aclnnUpsampleBilinear2dBackwardV2',
        lambda x: functional.interpolate(x, (5, 7), mode='bilinear'),
        some(2, 2, 4, 6),
        dtypes=SINGLE,
        slack=4,
    ),
    both(
        'aclnnUpsampleBicubic2d',
        lambda x: functional.interpolate(x, (5, 7), mode='bicubic'),
        some(2, 2, 4, 6),
        backward='aclnnUpsampleBicubic2dBackward',
        dtypes=SINGLE,
        slack=4,
    ),
    both(
        'aclnnUpsampleNearest2dV2',
        lambda x: functional.interpolate(x, (8, 12), mode='nearest'),
        some(2, 2, 4, 6),
        backward='aclnnUpsampleNearest2dBackward',
        dtypes=SINGLE,
        slack=4,
    ),
]


def foreach(name, *more):
    function = getattr(torch, f'_foreach_{name}')
    return lambda *tensors: list(function(*halves(tensors, more)))


def halves(tensors, more):
    """The tensors as the lists that a _foreach function takes: two tensors in each"""
    return [*([tensors[i], tensors[i + 1]] for i in range(0, len(tensors), 2)), *more]


def foreach_in_place(name, *more):
    function = getattr(torch, f'_foreach_{name}_')

    def run(*tensors):
        lists = halves(tensors, more)
        function(*lists)
        return lists[0]

    return run


a, b, c = (some(5, 4), some(7)), (some(5, 4), some(7)), (some(5, 4), some(7))
p = (positive(5, 4), positive(7))
EACH = dict(empty=False, slack=4)
FOREACH = [
    case('aclnnForeachAddListV2', foreach('add'), *a, *b, **EACH),
    case('aclnnForeachAddListV2', lambda *t: list(torch._foreach_add(t[:2], t[2:], alpha=3)), *a, *b, **EACH),
    case('aclnnForeachAddListV2', foreach_in_place('add'), *a, *b, **EACH),
    case('aclnnForeachSubListV2', foreach('sub'), *a, *b, **EACH),
    case('aclnnForeachMulList', foreach('mul'), *a, *b, **EACH),
    case('aclnnForeachDivList', foreach('div'), *a, *p, **EACH),
    case('aclnnForeachMaximumList', foreach('maximum'), *a, *b, **EACH),
    case('aclnnForeachMinimumList', foreach('minimum'), *a, *b, **EACH),
    case('aclnnForeachPowList', foreach('pow'), *p, *b, **EACH),
    case('aclnnForeachLerpList', foreach('lerp'), *a, *b, *p, **EACH),
    case('aclnnForeachAddScalarV2', foreach('add', 2.0), *a, **EACH),
    case('aclnnForeachSubScalarV2', foreach('sub', 2.0), *a, **EACH),
    case('aclnnForeachMulScalarV2', foreach_in_place('mul', 0.5), *a, **EACH),
    case('aclnnForeachDivScalarV2', foreach('div', 3.0), *a, **EACH),
    case('aclnnForeachPowScalarV2', foreach('pow', 2.0), *a, **EACH),
    case('aclnnForeachPowScalarAndTensor', lambda *t: list(torch._foreach_pow(2.0, t)), *a, **EACH),
    case('aclnnForeachMaximumScalarV2', foreach('maximum', 0.5), *a, **EACH),
    case('aclnnForeachMinimumScalarV2', foreach('minimum', 0.5), *a, **EACH),
    case('aclnnForeachLerpScalar', foreach_in_place('lerp', 0.3), *a, *b, **EACH),
    case('aclnnForeachAddScalarList', foreach('add', [1.0, 2.0]), *a, **EACH),
    case('aclnnForeachSubScalarList', foreach('sub', [1.0, 2.0]), *a, **EACH),
    case('aclnnForeachMulScalarList', foreach('mul', [1.0, 2.0]), *a, **EACH),
    case('aclnnForeachDivScalarList', foreach('div', [1.0, 3.0]), *a, **EACH),
    case('aclnnForeachAddcmulScalarV2', foreach_in_place('addcmul', 0.5), *a, *b, *c, **EACH),
    case('aclnnForeachAddcdivScalarV2', foreach_in_place('addcdiv', -0.5), *a, *b, *p, **EACH),
    case('aclnnForeachAddcmulScalarList', foreach('addcmul', torch.tensor([1.0, 2.0])), *a, *b, *c, **EACH),
    case('aclnnForeachAddcdivScalarList', foreach('addcdiv', torch.tensor([1.0, 2.0])), *a, *b, *p, **EACH),
    *(
        case(f'aclnnForeach{name.capitalize()}', foreach(name), *p, **EACH)
        for name in 'sqrt neg abs exp log sign reciprocal sigmoid tanh'.split()
    ),
    case('aclnnForeachCopy', lambda *t: (torch._foreach_copy_(t[:2], t[2:]), list(t[:2]))[1], *a, *b, **EACH),
    case('aclnnForeachZeroInplace', lambda *t: (torch._foreach_zero_(t), list(t))[1], *a, **EACH),
    case('aclnnForeachNorm', foreach('norm'), *a, **EACH),
]
