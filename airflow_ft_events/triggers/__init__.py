"""The trigger: a wait in the triggerer."""
