"""When to ask the cloud: a policy, a decision with its reasons, and an answer in any case."""
