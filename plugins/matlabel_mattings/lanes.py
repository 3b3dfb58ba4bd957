"""Sixteen numbers at a time: what a loop over sixteen floats means, written so that it is always compiled to vectors.

LLVM turns such loops into vector instructions only where it can prove that arrays do not overlap; asked directly it
does so for every processor, splitting the sixteen where its registers are shorter. Results do not depend on that.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDE, FOUR = 16, 4
LANES = ir.VectorType(ir.FloatType(), WIDE)
I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


def _splat(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(LANES, ir.Undefined)
    first = builder.insert_element(nothing, value, I32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(I32, WIDE), [0] * WIDE))


def _data(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), LANES.as_pointer())


def _apart(builder: Any, before: Any, behind: Any, zero: Any) -> Any:
    """The square of the larger one, of 0 where both are below; nan where `behind` is."""
    apart = builder.select(builder.fcmp_ordered("<", behind, before), before, behind)
    apart = builder.select(builder.fcmp_ordered("<", apart, zero), zero, apart)
    return builder.fmul(apart, apart)


def _bits(builder: Any, mask: Any) -> Any:
    return builder.zext(builder.bitcast(mask, I16), I64)


@intrinsic
def distances(
    typing: Any, tiles: Any, offset: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, reach: Any, out: Any, to: Any
):  # type: ignore[no-untyped-def]
    """Write the squared distances of (p0 .. p4) to the sixteen points at tiles[offset:offset + 80] to out[to:to + 16].

    tiles and out are flat float32 arrays; sixteen first coordinates stand before sixteen second ones. Returns the
    bits of the points that are at most `reach` away, the first point lowest.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total = None
        for d in range(5):
            start = builder.add(args[1], I64(d * WIDE))
            lanes = builder.load(_data(context, builder, signature.args[0], args[0], start))
            lanes.align = 4
            apart = builder.fsub(_splat(builder, args[2 + d]), lanes)
            square = builder.fmul(apart, apart)
            total = square if total is None else builder.fadd(total, square)
        builder.store(total, _data(context, builder, signature.args[8], args[8], args[9])).align = 4
        return _bits(builder, builder.fcmp_ordered("<=", total, _splat(builder, args[7])))

    return types.int64(tiles, types.int64, *[types.float32] * 6, out, types.int64), build


@intrinsic
def near(typing: Any, tiles: Any, offset: Any, boxes: Any, box: Any, reaches: Any):  # type: ignore[no-untyped-def]
    """The bits of those of the sixteen points at tiles[offset:offset + 80] that a box is within reach of.

    Args:
        boxes: five least and five greatest coordinates at the flat places box .. box + 9.
        reaches: the squared reach of each point. A point that is nan is not within it.

    A box is at most as far as any point in it that `distances` measures, rounding included.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, zero = None, ir.Constant(LANES, [0.0] * WIDE)
        sides = context.make_array(signature.args[2])(context, builder, args[2]).data
        for d in range(5):
            start = builder.add(args[1], I64(d * WIDE))
            lanes = builder.load(_data(context, builder, signature.args[0], args[0], start))
            lanes.align = 4
            low, high = (
                _splat(builder, builder.load(builder.gep(sides, [builder.add(args[3], I64(side * 5 + d))])))
                for side in range(2)
            )
            square = _apart(builder, builder.fsub(low, lanes), builder.fsub(lanes, high), zero)
            total = square if total is None else builder.fadd(total, square)
        reach = builder.load(_data(context, builder, signature.args[4], args[4], I64(0)))
        reach.align = 4
        return _bits(builder, builder.fcmp_ordered("<=", total, reach))

    return types.int64(tiles, types.int64, boxes, types.int64, reaches), build


@intrinsic
def gaps(typing: Any, sides: Any, offset: Any, boxes: Any, box: Any, reach: Any, out: Any):  # type: ignore[no-untyped-def]
    """Write the squared distances of a box to the sixteen at sides[offset:offset + 160] to out[:16].

    Args:
        sides: sixteen least first coordinates, then of the other four, then sixteen greatest ones and so on.
        boxes: five least and five greatest coordinates at the flat places box .. box + 9.

    Returns the bits of the boxes that are at most `reach` away.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, zero = None, ir.Constant(LANES, [0.0] * WIDE)
        one = context.make_array(signature.args[2])(context, builder, args[2]).data
        for d in range(5):
            starts = [builder.add(args[1], I64((side * 5 + d) * WIDE)) for side in range(2)]
            lows, highs = (builder.load(_data(context, builder, signature.args[0], args[0], at)) for at in starts)
            lows.align = highs.align = 4
            low, high = (
                _splat(builder, builder.load(builder.gep(one, [builder.add(args[3], I64(side * 5 + d))])))
                for side in range(2)
            )
            square = _apart(builder, builder.fsub(low, highs), builder.fsub(lows, high), zero)
            total = square if total is None else builder.fadd(total, square)
        builder.store(total, _data(context, builder, signature.args[5], args[5], I64(0))).align = 4
        return _bits(builder, builder.fcmp_ordered("<=", total, _splat(builder, args[4])))

    return types.int64(sides, types.int64, boxes, types.int64, types.float32, out), build


@intrinsic
def weighted(typing: Any, links: Any, weights: Any, start: Any, count: Any, values: Any, out: Any, to: Any):  # type: ignore[no-untyped-def]
    """Write to out[to:to + 16], float32, for each lane t the sum over k < count of weight * values[link].

    Links, uint32, and weights, uint8, stand at start + 16 k + t in flat arrays; `values` are float32.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places, floats = ir.VectorType(I64, WIDE), ir.VectorType(ir.FloatType().as_pointer(), WIDE)
        everyone = ir.VectorType(ir.IntType(1), WIDE)
        kind = ir.FunctionType(LANES, [floats, I32, everyone, LANES])
        gather = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.gather.v16f32.v16p0")
        data = [context.make_array(signature.args[n])(context, builder, args[n]).data for n in (0, 1, 4)]
        nowhere = ir.Constant(places, ir.Undefined)
        base = builder.insert_element(nowhere, builder.ptrtoint(data[2], I64), I32(0))
        base = builder.shuffle_vector(base, nowhere, ir.Constant(ir.VectorType(I32, WIDE), [0] * WIDE))
        total = cgutils.alloca_once_value(builder, ir.Constant(LANES, [0.0] * WIDE))
        with cgutils.for_range(builder, args[3]) as loop:
            at = builder.add(args[2], builder.mul(loop.index, I64(WIDE)))
            link, weight = (
                builder.load(builder.bitcast(builder.gep(data[n], [at]), ir.VectorType(kind, WIDE).as_pointer()))
                for n, kind in ((0, I32), (1, ir.IntType(8)))
            )
            link.align, weight.align = 4, 1
            apart = builder.shl(builder.zext(link, places), ir.Constant(places, [2] * WIDE))
            pointers = builder.inttoptr(builder.add(base, apart), floats)
            ones, zeros = ir.Constant(everyone, [1] * WIDE), ir.Constant(LANES, [0.0] * WIDE)
            value = builder.call(gather, [pointers, I32(4), ones, zeros])
            part = builder.fmul(builder.uitofp(weight, LANES), value, flags=("contract",))
            builder.store(builder.fadd(builder.load(total), part, flags=("contract",)), total)
        builder.store(builder.load(total), _data(context, builder, signature.args[5], args[5], args[6])).align = 4
        return context.get_dummy_value()

    return types.void(links, weights, types.int64, types.int64, values, out, types.int64), build


@intrinsic
def within(typing: Any, numbers: Any, offset: Any, limit: Any):  # type: ignore[no-untyped-def]
    """The bits of those of the sixteen floats at numbers[offset:offset + 16] that are at most `limit`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = builder.load(_data(context, builder, signature.args[0], args[0], args[1]))
        lanes.align = 4
        return _bits(builder, builder.fcmp_ordered("<=", lanes, _splat(builder, args[2])))

    return types.int64(numbers, types.int64, types.float32), build


@intrinsic
def largest(typing: Any, numbers: Any, offset: Any, limit: Any):  # type: ignore[no-untyped-def]
    """The largest of those of the sixteen floats at numbers[offset:offset + 16] that are at most `limit`, else 0."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = builder.load(_data(context, builder, signature.args[0], args[0], args[1]))
        lanes.align = 4
        inside = builder.fcmp_ordered("<=", lanes, _splat(builder, args[2]))
        best = builder.select(inside, lanes, ir.Constant(LANES, [0.0] * WIDE))
        half = WIDE // 2
        while half:
            places = [(i + half) % WIDE for i in range(WIDE)]
            other = builder.shuffle_vector(best, best, ir.Constant(ir.VectorType(I32, WIDE), places))
            best = builder.select(builder.fcmp_ordered("<", best, other), other, best)
            half //= 2
        return builder.extract_element(best, I32(0))

    return types.float32(numbers, types.int64, types.float32), build


@intrinsic
def ones(typing: Any, bits: Any):  # type: ignore[no-untyped-def]
    """How many bits are set."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.int64), build


@intrinsic
def lowest(typing: Any, bits: Any):  # type: ignore[no-untyped-def]
    """Place of the lowest bit that is set; some must be."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), build


@intrinsic
def extremes(typing: Any, points: Any, start: Any, end: Any, low: Any, high: Any):  # type: ignore[no-untyped-def]
    """Write to low[:20] and high[:20] the least and greatest coordinates of points[start:end], of each dimension four.

    Args:
        points: rows of five float32, none nan. Four are read at a time, the last four apart, so there must be four.

    The four of dimension d, whose least or greatest is that of all, stand at d, d + 5, d + 10 and d + 15.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.FloatType(), FOUR)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        last = builder.sub(args[2], I64(FOUR))

        def rows(at: Any) -> Any:
            places = (builder.add(builder.mul(at, I64(5)), I64(v * FOUR)) for v in range(5))
            found = [builder.load(builder.bitcast(builder.gep(data, [place]), kind.as_pointer())) for place in places]
            for lanes in found:
                lanes.align = 4
            return found

        first = rows(last)
        ends = [[cgutils.alloca_once_value(builder, lanes) for lanes in first] for _ in "<>"]
        groups = builder.udiv(builder.sub(args[2], args[1]), I64(FOUR))
        with cgutils.for_range(builder, groups) as loop:
            for v, lanes in enumerate(rows(builder.add(args[1], builder.mul(loop.index, I64(FOUR))))):
                for order, totals in zip("<>", ends, strict=True):
                    so_far = builder.load(totals[v])
                    closer = builder.fcmp_ordered(order, lanes, so_far)
                    builder.store(builder.select(closer, lanes, so_far), totals[v])
        for which, totals in zip((3, 4), ends, strict=True):
            out = context.make_array(signature.args[which])(context, builder, args[which]).data
            for v, total in enumerate(totals):
                place = builder.bitcast(builder.gep(out, [I64(v * FOUR)]), kind.as_pointer())
                builder.store(builder.load(total), place).align = 4
        return context.get_dummy_value()

    return types.void(points, types.int64, types.int64, low, high), build
