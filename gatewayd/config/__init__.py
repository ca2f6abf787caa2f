"""The configuration: a settings table, an INI reader that knows file and line, and the values they make."""
