"""Checks: what doctor looks at, each a finding with what to do."""
