"""The one place that says which release this is; everything else is stamped from it."""

VERSION = "0.2.0"
