"""Several hosts: the cluster, its coordinator and their connections."""
