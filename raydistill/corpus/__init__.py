"""What backfill is made of: what a run is, where its rows go, and how it survives."""
