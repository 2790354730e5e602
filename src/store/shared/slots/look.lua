-- Has the book changed? No more of its own.
if is_lost then return {'lost', born or '0', version} end
return {'book', born, version}
