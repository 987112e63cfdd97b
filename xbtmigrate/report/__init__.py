"""Room `report`: one self-contained page with plots; it knows no other room."""
