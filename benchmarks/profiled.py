"""Shows where a pass spends its time and its memory, operator by operator, as torch's profiler sees it.

    python -m benchmarks.profiled training --side 512
    python -m benchmarks.profiled evaluation --who msga --side 256 --shapes

Nothing is written down: the times of a profiled pass are for looking, those of the other benchmarks for comparing.
"""

import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import prepared
from benchmarks.rows import WHO, Spec

__all__ = ["operators"]


def main() -> None:
    """Print the operators of the pass that the command line names, the dearest first."""
    wanted = vars(_parse())
    look = {name: wanted.pop(name) for name in ("shapes", "rows")}
    torch.set_num_threads(wanted["threads"])
    print(operators(Spec(**wanted), **look))


def operators(spec: Spec, *, shapes: bool = False, rows: int = 25) -> str:
    """Profile one pass and return the table of its operators, the dearest first; with `shapes`, each shape apart."""
    work = prepared(spec)
    cuda = spec.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, record_shapes=shapes, profile_memory=True) as found:
        work()
    averages = found.key_averages(group_by_input_shape=shapes)
    order = "self_device_time_total" if cuda else "self_cpu_time_total"
    return averages.table(sort_by=order, row_limit=rows, max_name_column_width=44, max_shapes_column_width=72)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profiled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=WHO)
    parser.add_argument("--who", default="ours", help="whose pass: ours, twin, msga and others")
    parser.add_argument(
        "--side", type=int, default=256, help="of the map for attention, of the image otherwise"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--part", choices=("forward", "backward", "both"), default="both", help="of attention"
    )
    parser.add_argument("--shapes", action="store_true", help="show calls on other shapes apart")
    parser.add_argument("--rows", type=int, default=25, help="how many operators to show")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    if args.who not in WHO[args.task]:
        parser.error(f"--who: wanted one of {', '.join(WHO[args.task])} for {args.task}, got {args.who!r}")
    return args


if __name__ == "__main__":
    main()
