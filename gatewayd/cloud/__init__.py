"""The operator's side as a reference: issue keys, sign time, pull and verify logs."""
