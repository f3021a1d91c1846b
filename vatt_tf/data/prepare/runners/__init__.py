"""Who makes the shards of a plan: processes of this machine, or Apache Beam."""
