"""Quantizers: what integers and scales the weights of a matrix become.

`scales` rounds (rtn, search, activation), `gptq` rounds column by column; `calibrate` looks at
activations for them, `sensitivity` at what each matrix costs, `allocate` shares out bits.
"""
