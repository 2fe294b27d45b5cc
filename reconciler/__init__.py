"""A GitOps reconciler for plain Docker servers. See docs/architecture.md for how the packages depend on each other."""

__version__ = "0.1.0"
