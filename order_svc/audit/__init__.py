"""The stock ledger, replayed to prove or disprove that a sale was never oversold."""
