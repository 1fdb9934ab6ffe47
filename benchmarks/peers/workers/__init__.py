"""The peers' side: each module runs one of them, in the Python that has its packages, and knows nothing of ours."""
