"""What files hold (arrays, pictures, clips, sound, tables), and their writing."""
