"""PyTorch's side of the scaling row: torch_step.py's step on several ranks, under DistributedDataParallel over gloo.

    torch_ddp.py --processors 0,1 [OPTIONS of torch_step.py]     one rank on each processor; prints one JSON line

It does less than apus does: BN is local to a rank (the synchronised one does not run on processors), as are negatives.
"""
import json
import os
import tempfile

import torch

import torch_step


def work(rank, a, meeting, results):
    os.sched_setaffinity(0, [a.processors[rank]])
    # All ranks are on this machine, and its host name may not resolve.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    ranks = len(a.processors)
    torch.distributed.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=ranks)
    model, views = torch_step.made(a)
    wait = torch_step.turns(a) if rank == 0 else lambda: None

    def begun():
        wait()
        torch.distributed.barrier()

    if rank > 0:
        a.turns = None  # only the first rank takes part
    result = torch_step.timed(torch.nn.parallel.DistributedDataParallel(model), views, a, ranks * a.images, begun)
    if rank == 0:
        results.put(result)
    torch.distributed.destroy_process_group()


def main():
    parser = torch_step.options()
    parser.add_argument("--processors", required=True, type=lambda text: [int(word) for word in text.split(",")])
    a = parser.parse_args()
    results = torch.multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (a, folder + "/meeting", results), nprocs=len(a.processors))
    print(json.dumps({"peer": "PyTorch DDP over gloo " + torch.__version__, **results.get()}))


if __name__ == "__main__":
    main()
