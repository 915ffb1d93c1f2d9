"""The commands, one a module. Each is loaded when it is asked for."""
