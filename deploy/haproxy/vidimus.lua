-- Asks Vidimus about a request: haproxy.cfg calls it with "http-request lua.vidimus". HAProxy has no question of its
-- own for this, as nginx has auth_request. It needs HAProxy 2.5 or newer, for core.httpclient; tested with 2.6.
--
-- It reads the variable txn.vidimus_policy, and answers in one of three ways:
--   Vidimus says 200: txn.vidimus_passed is true, and each header of the answer that has a value is a variable, such as
--                     txn.vidimus_x_auth_request_user. haproxy.cfg makes identity headers from them.
--   it says 401, 403 or 503: the client gets that answer, and the request ends here.
--   anything else, or nothing: no variable is set. HAProxy goes on with a request whose Lua has failed, so haproxy.cfg
--                     itself must refuse every request without txn.vidimus_passed. Without that rule all of this is void.

-- A unix socket costs less than "127.0.0.1:9180", and its permissions say who may ask.
local VIDIMUS = "unix@run/vidimus/edge.sock"     -- path

-- Milliseconds. Vidimus may wait up to 5 seconds for the issuer: for new keys, or for its word about a token.
local TIMEOUT = 6000

-- The client's certificate: haproxy.cfg sets one of these variables, and Vidimus reads the header of its provider.
-- No header of the client's request has a part in it.
local CERTIFICATE = {
    ["txn.client_cert_sha256"] = "x-client-cert-sha256",    -- provider = "thumbprint"
    ["txn.client_cert_der"]    = "ssl_client_cert",         -- provider = "haproxy"
}

-- What the client gets to see of a refusal, beside its status and body.
local RELAYED = { "www-authenticate", "retry-after", "content-type", "cache-control" }

-- HAProxy's lists of header values begin at 0.
local function joined(values)
    local text = values[0]
    for i = 1, #values do
        text = text .. ", " .. values[i]
    end
    return text
end

-- Both lines if the client sends Authorization twice: Vidimus refuses two credentials, and which of them the service
-- would have taken is unknown. More than two change nothing about that, and HAProxy 2.6 does not count how many
-- headers it is given here.
local function credentials(txn)
    local lines = txn.http:req_get_headers()["authorization"]
    return lines and { lines[0], lines[1] }
end

-- Nothing of the client's request goes to Vidimus except what is written here.
local function question(txn)
    local headers = {
        ["authorization"] = credentials(txn),
        ["x-original-method"] = { txn.sf:method() },
        ["x-original-uri"] = { txn.sf:path() },     -- for Vidimus' log. Without the query, which may hold secrets.
    }
    for variable, name in pairs(CERTIFICATE) do
        local value = txn:get_var(variable)
        headers[name] = value and { value }
    end
    return headers
end

local function refuse(txn, answer)
    local reply = txn:reply({ status = answer.status, body = answer.body })
    for _, name in ipairs(RELAYED) do
        local values = answer.headers[name]
        if values then
            reply:add_header(name, joined(values))
        end
    end
    txn:done(reply)
end

local function ask(txn)
    local answer = core.httpclient():get({
        url = "http://vidimus/auth/" .. txn:get_var("txn.vidimus_policy"),
        dst = VIDIMUS,
        headers = question(txn),
        timeout = TIMEOUT,
    })
    local status, headers = answer.status, answer.headers or {}
    txn:set_var("txn.vidimus_status", status)
    if status == 200 then
        for name, values in pairs(headers) do
            local value = joined(values)
            if value ~= "" then
                txn:set_var("txn.vidimus_" .. name:gsub("[^%w]", "_"), value)
            end
        end
        txn:set_var("txn.vidimus_passed", true)
    -- HAProxy answers 503 and 504 itself if it does not reach Vidimus: not in JSON, and without Retry-After.
    elseif status == 401 or status == 403 or status == 503 and headers["retry-after"] then
        refuse(txn, answer)
    end
end

core.register_action("vidimus", { "http-req" }, ask)
