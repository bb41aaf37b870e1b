"""What agreement is claimed on: comparisons, intervals, slices, pages, gates, cost."""
