"""A cluster of two nodes of one core each, on the loopback interface alone. A script, so that it leaves nothing behind.

It prints its address, then obeys a line at a time: ``add`` and ``remove`` a third node. It ends with its input.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "node_ip_address": "127.0.0.2"})
    cluster.add_node(**NODE, node_ip_address="127.0.0.3")
    print(cluster.address, flush=True)
    third = None
    for line in sys.stdin:
        if line.strip() == "add":
            third = cluster.add_node(**NODE, node_ip_address="127.0.0.4")
        else:
            cluster.remove_node(third, allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
