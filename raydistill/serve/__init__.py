"""Online: the stages of backfill behind HTTP. `app` is the interface, `deployment` is Ray Serve."""
