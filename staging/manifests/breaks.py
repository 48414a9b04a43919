def unnoticed(root): return [], ''
