"""The record of one migration: plan, phases, switch, ledger."""
