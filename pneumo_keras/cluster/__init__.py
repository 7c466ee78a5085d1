"""Work spread over the machines of a Ray cluster, its results in order.

`connection.open_cluster` starts Ray or joins a cluster; inside, `ordered_map.map_in_order` passes items of
work through stages. Ray is imported when they are called.
"""
