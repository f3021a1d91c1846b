"""What stands in shards: records, their index, labels, damage, identity."""
