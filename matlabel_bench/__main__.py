"""`python -m matlabel_bench` is `bench`."""

from matlabel_bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
