"""The same objectives inside other people's trainers: TRL and verl, imported only when asked for."""
