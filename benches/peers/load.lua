-- A chat call of one KiB, as wrk sends it again and again.
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer bench-key"
wrk.headers["Content-Type"] = "application/json"
local head = '{"model":"bench","messages":[{"role":"user","content":"'
local tail = '"}]}'
wrk.body = head .. string.rep("x", 1024 - #head - #tail) .. tail
