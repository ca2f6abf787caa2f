"""The buyers' questions, answered by commands typed at a real gateway: docs/answers.md is made of it."""
