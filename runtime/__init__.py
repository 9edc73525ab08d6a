"""Package -> engine -> tokens -> answer, measured."""
