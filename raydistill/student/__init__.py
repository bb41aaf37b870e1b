"""Students: shapes, training, and the Hugging Face folders they live in. The home of torch.

Nothing in this package imports ray: the same loop runs in one process, on a lone GPU and under DDP.
"""
