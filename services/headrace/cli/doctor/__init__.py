"""`headrace doctor`: looks at every hop, and says in a sentence what is wrong and what to do."""
