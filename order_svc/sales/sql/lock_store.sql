-- Lock the current Redis primary; what is read of it afterwards is what the last one to raise the
-- generation has left.
SELECT FROM store_generation FOR UPDATE
