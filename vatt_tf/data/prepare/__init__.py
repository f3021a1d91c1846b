"""From a folder of files to shards: plan, cutting, writing, workers."""
