"""Models on disk: reading them tensor by tensor, and patches that change some of their rows."""
