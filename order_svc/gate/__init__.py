"""The rules of the gate that operators change: limits, lists, policies of sales."""
