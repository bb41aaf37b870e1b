"""What knows Ray besides the verbs: its start, and reads as Ray datasets."""
