"""The runtime over JSON-RPC on stdin and stdout, for programs that should open no port."""
