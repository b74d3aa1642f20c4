"""One run over time: when things are due, what is recorded and stored, how it goes on."""
