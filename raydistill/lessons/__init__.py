"""What a dataset is made of: teacher rows read, cleaned, checked, varied, split and exported."""
