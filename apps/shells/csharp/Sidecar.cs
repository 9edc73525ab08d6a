using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Ondevice.Shell;

/// <summary>What the sidecar says is wrong with a request; the code as in docs/stdio.md.</summary>
sealed class RequestException(int code, string message) : Exception(message)
{
    public int Code => code;
}

/// <summary>The sidecar ended, or sent what is no message.</summary>
sealed class LostException(string message) : Exception(message);

/// <summary>A request on its way; its result or its exception come exactly once.</summary>
sealed class Pending(int id, Sidecar sidecar)
{
    readonly TaskCompletionSource<JsonNode?> source = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public int Id => id;

    /// <summary>Called on the reading thread, before the result.</summary>
    public Action<JsonObject>? OnStage { get; init; }

    /// <summary>As <see cref="OnStage"/>.</summary>
    public Action<JsonObject>? OnToken { get; init; }

    public Task<JsonNode?> Result => source.Task;

    /// <summary>Asks for its end; the result or an error comes all the same.</summary>
    public void Cancel() => sidecar.Notify("$/cancel", new JsonObject { ["id"] = id });

    internal void Complete(JsonNode? result) => source.TrySetResult(result);

    internal void Fail(Exception error) => source.TrySetException(error);
}

/// <summary>
/// The client of <c>ondevice stdio</c>: starts it, sends requests, hands out what comes back. Knows nothing of
/// terminals. Usable from any thread.
/// </summary>
sealed class Sidecar
{
    static readonly TimeSpan Goodbye = TimeSpan.FromSeconds(3);
    const int MostHeaderBytes = 4096;

    readonly Process process;
    readonly Stream output;
    readonly Dictionary<int, Pending> pending = [];
    readonly object writing = new();
    int lastId;
    LostException? lost;

    public Sidecar(IReadOnlyList<string> command)
    {
        var start = new ProcessStartInfo(command[0], command.Skip(1))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            UseShellExecute = false,
        };
        process = Process.Start(start)!;
        output = process.StandardInput.BaseStream;
        new Thread(ReadAll) { IsBackground = true, Name = "sidecar" }.Start();
    }

    public int Pid => process.Id;

    /// <summary>The first request: {server, models, default}.</summary>
    public async Task<JsonObject> Initialize(string client)
    {
        var parameters = new JsonObject
        {
            ["protocol"] = 1,
            ["client"] = new JsonObject { ["name"] = client, ["version"] = "1" },
            ["capabilities"] = new JsonObject { ["consent"] = false },
        };
        return (await Request("initialize", parameters).Result)!.AsObject();
    }

    public Pending Request(
        string method, JsonNode? parameters, Action<JsonObject>? onStage = null, Action<Pending, JsonObject>? onToken = null)
    {
        Pending request = null!;
        lock (pending)
        {
            request = new Pending(++lastId, this) { OnStage = onStage, OnToken = token => onToken?.Invoke(request, token) };
            if (lost is null) pending[request.Id] = request;
            else request.Fail(lost);
        }
        Send(Message(method, parameters, request.Id));
        return request;
    }

    public void Notify(string method, JsonNode? parameters = null) => Send(Message(method, parameters));

    /// <summary>Ends every answer and the sidecar; its exit code.</summary>
    public async Task<int> Stop()
    {
        try
        {
            await Request("shutdown", null).Result;
        }
        catch (Exception error) when (error is LostException or RequestException)
        {
            // it has ended already, or is about to
        }
        Notify("exit");
        try
        {
            output.Close();
        }
        catch (IOException)
        {
            // as above
        }
        if (!process.WaitForExit(Goodbye)) process.Kill(entireProcessTree: true);
        process.WaitForExit();
        return process.ExitCode;
    }

    static JsonObject Message(string method, JsonNode? parameters, int? id = null)
    {
        var message = new JsonObject { ["jsonrpc"] = "2.0", ["method"] = method };
        if (id is not null) message["id"] = id;
        if (parameters is not null) message["params"] = parameters;
        return message;
    }

    void Send(JsonObject message)
    {
        var body = JsonSerializer.SerializeToUtf8Bytes(message);
        var header = Encoding.ASCII.GetBytes($"Content-Length: {body.Length}\r\n\r\n");
        lock (writing)
        {
            try
            {
                output.Write(header);
                output.Write(body);
                output.Flush();
            }
            catch (Exception error) when (error is IOException or ObjectDisposedException)
            {
                // the reader learns that it has ended
            }
        }
    }

    void ReadAll()
    {
        try
        {
            using var input = new BufferedStream(process.StandardOutput.BaseStream);
            while (true) Take(JsonNode.Parse(ReadBody(input))!.AsObject());
        }
        catch (IOException)
        {
            process.WaitForExit();
            Fail($"the sidecar ended: exit code {process.ExitCode}");
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or FormatException)
        {
            process.Kill(entireProcessTree: true);
            Fail("the sidecar sent something that is no message; it was ended");
        }
    }

    static byte[] ReadBody(Stream input)
    {
        const string name = "Content-Length:";
        int? length = null;
        var left = MostHeaderBytes;
        for (var line = ReadLine(input, left); line.Length > 0; line = ReadLine(input, left))
        {
            left -= line.Length;
            if (line.StartsWith(name, StringComparison.OrdinalIgnoreCase)) length = int.Parse(line[name.Length..]);
        }
        var body = new byte[length ?? throw new FormatException("no Content-Length")];
        input.ReadExactly(body);
        return body;
    }

    static string ReadLine(Stream input, int most)
    {
        var line = new StringBuilder();
        for (var next = input.ReadByte(); next != '\n'; next = input.ReadByte())
        {
            if (next < 0) throw new EndOfStreamException();
            if (line.Length >= most) throw new FormatException("no header");
            line.Append((char)next);
        }
        return line.ToString().TrimEnd();
    }

    void Take(JsonObject message)
    {
        if (message["method"] is not { } method) Settle(message);
        else if (message["id"] is { } id) Refuse(id);
        else Tell(method.GetValue<string>(), message["params"]!.AsObject());
    }

    void Settle(JsonObject message)
    {
        Pending? request;
        lock (pending) pending.Remove(message["id"]?.GetValue<int>() ?? 0, out request);
        if (message["error"] is { } error)
            request?.Fail(new RequestException(error["code"]!.GetValue<int>(), error["message"]!.GetValue<string>()));
        else
            request?.Complete(message["result"]);
    }

    void Refuse(JsonNode id)
    {
        var error = new JsonObject { ["code"] = -32601, ["message"] = "this client answers no requests" };
        Send(new JsonObject { ["jsonrpc"] = "2.0", ["id"] = id.DeepClone(), ["error"] = error });
    }

    void Tell(string method, JsonObject parameters)
    {
        Pending? request;
        lock (pending) pending.TryGetValue(parameters["id"]!.GetValue<int>(), out request);
        if (method == "$/stage") request?.OnStage?.Invoke(parameters);
        else if (method == "$/token") request?.OnToken?.Invoke(parameters);
    }

    void Fail(string why)
    {
        Pending[] left;
        lock (pending)
        {
            lost = new LostException(why);
            left = [.. pending.Values];
            pending.Clear();
        }
        foreach (var request in left) request.Fail(lost);
    }
}
