"""The page: extract, review and quality in a browser, without a build step or a network."""
