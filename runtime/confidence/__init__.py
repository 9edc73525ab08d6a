"""How likely an answer is right: token signals, a calibrated probability, a certificate."""
