using System.Globalization;
using System.Text.Json.Nodes;

namespace Ondevice.Shell;

static class Status
{
    /// <summary>The line under an answer: where it came from and how fast.</summary>
    public static string Line(JsonObject result)
    {
        var timings = result["timings"]!;
        var reason = result["reason"]!.GetValue<string>();
        string[] parts =
        [
            $"{result["source"]}: {result["model"]}",
            $"TTFT {Rounded(timings["ttft_ms"]!, "F0")} ms",
            $"{Rounded(timings["decode_tps"]!, "F1")} tokens/s",
            $"{result["usage"]!["output_tokens"]} tokens",
            $"{result["finish_reason"]}",
        ];
        return $"[{string.Join(" | ", parts)}{(reason.Length > 0 ? " | " : "")}{reason}]";
    }

    static string Rounded(JsonNode number, string format) =>
        number.GetValue<double>().ToString(format, CultureInfo.InvariantCulture);
}
