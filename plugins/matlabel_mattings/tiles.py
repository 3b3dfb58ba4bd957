"""The product at the heart of a dense Cholesky factorisation, for matrices too small to be worth a call of BLAS.

A tile of the target stays in registers while all columns pass; as in lanes.py LLVM is asked for vectors directly.
Floats are float32 or float64; matrices lie column by column in flat arrays.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

BYTES = 64 if "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2] else 32
"""Rows of a tile are one or two times this, the size of a register; columns are multiples of it long.

Twice as much as a register has leaves a tile more sums than there are registers. Sums do not depend on it. Asked of
numba, under whose answer compiled code is kept: code kept for one size is not run with columns of the other.
"""
COLUMNS = 4
"""Columns of a tile: with two registers of rows eight sums, enough to keep a processor's two multipliers busy."""

I64 = ir.IntType(64)


def _tile(vectors: int, columns: int) -> Any:
    """Intrinsic for tiles of `vectors` * BYTES of rows and `columns` columns."""

    def product(typing: Any, c: Any, at: Any, rows: Any, a: Any, left: Any, right: Any, stride: Any, depth: Any):  # type: ignore[no-untyped-def]
        """c[at + i + j * rows] -= sum over k < depth of a[left + i + k * stride] * a[right + j + k * stride]."""
        number = ir.FloatType() if a.dtype == types.float32 else ir.DoubleType()
        lanes = vectors * BYTES // (4 if a.dtype == types.float32 else 8)
        wide = ir.VectorType(number, lanes)

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args
            target = context.make_array(kinds[0])(context, builder, args[0]).data
            source = context.make_array(kinds[3])(context, builder, args[3]).data
            sums = [cgutils.alloca_once_value(builder, ir.Constant(wide, [0.0] * lanes)) for _ in range(columns)]
            with cgutils.for_range(builder, args[7]) as loop:
                far = builder.mul(loop.index, args[6])
                here = builder.gep(source, [builder.add(args[4], far)])
                rows_of_a = builder.load(builder.bitcast(here, wide.as_pointer()))
                rows_of_a.align = 4
                for j, total in enumerate(sums):
                    there = builder.add(builder.add(args[5], far), I64(j))
                    factor = builder.load(builder.gep(source, [there]))
                    first = builder.insert_element(ir.Constant(wide, ir.Undefined), factor, ir.IntType(32)(0))
                    mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                    spread = builder.shuffle_vector(first, first, mask)
                    part = builder.fmul(rows_of_a, spread, flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), part, flags=("contract",)), total)
            for j, total in enumerate(sums):
                place = builder.gep(target, [builder.add(args[1], builder.mul(args[2], I64(j)))])
                place = builder.bitcast(place, wide.as_pointer())
                before = builder.load(place)
                before.align = 4
                builder.store(builder.fsub(before, builder.load(total)), place).align = 4
            return context.get_dummy_value()

        i = types.int64
        return types.void(c, i, i, a, i, i, i, i), build

    return intrinsic(product)


tall = _tile(2, COLUMNS)
short = _tile(1, COLUMNS)
tall_column = _tile(2, 1)
short_column = _tile(1, 1)
