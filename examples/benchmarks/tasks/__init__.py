"""What `aggregator_tasks` trains on: problems on multisets, problems on random graphs, and the models for both."""
