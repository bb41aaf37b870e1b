"""Several tasks in one student: their lessons, their release, their answers and their report."""
