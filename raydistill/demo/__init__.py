"""The demo world: filings made by seed and read by a teacher, and the whole way over them."""
